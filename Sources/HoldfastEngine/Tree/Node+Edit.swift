import Glibc
import HoldfastCore

/// Changes that touch few bytes of a page: the log carries the difference.
extension Node {
    /// Puts a record before `slot`. False when its key does not begin with the page's prefix or there is
    /// no room in the hole; then nothing has changed.
    func insert(_ key: Bytes, _ payload: Payload, at slot: Int) -> Bool {
        let prefixLength = self.prefixLength, lower = page.lower, upper = page.upper, count = self.count
        assert(slot >= 0 && slot <= count)
        guard key.count >= prefixLength, memcmp(key.bytes, prefix, prefixLength) == 0 else { return false }
        let suffix = Bytes(key.bytes + prefixLength, key.count - prefixLength)
        let bytes = Self.cellBytes(suffix: suffix.count, payload: payload.count) - Self.slotBytes
        guard lower + Self.slotBytes + bytes <= upper else { return false }
        let place = base + (Self.slotStart + slot * Self.slotBytes)
        memmove(place + Self.slotBytes, place, (count - slot) * Self.slotBytes)
        let offset = upper - bytes
        TouchedCells(base).note(offset, upper)
        Cell(base + offset).write(suffix: suffix.bytes, length: suffix.count, payload: payload)
        setSlot(slot, head: Self.head(suffix.bytes, suffix.count), cellOffset: offset)
        self.count = count + 1
        page.upper = offset
        if payload.isOverflow { page.flags |= Self.mayOverflowFlag }
        return true
    }

    /// Gives the key of `slot` another payload; in place when it is not longer, so that only its bytes change.
    /// False when there is no room; then nothing has changed.
    func replace(_ key: Bytes, _ payload: Payload, at slot: Int, _ number: PageNumber) throws(EngineError) -> Bool {
        let cell = try cell(slot, number)
        if payload.count <= cell.payloadLength {
            let saved = cell.payloadLength - payload.count
            let offset = cell.start - base
            TouchedCells(base).note(offset, offset + cell.bytes)
            if saved == 0, payload.isOverflow == cell.isOverflow {
                memcpy(cell.payload, payload.bytes, payload.count)
            } else {
                cell.write(
                    suffix: key.bytes + prefixLength, length: cell.suffixLength, payload: payload)
                deadBytes += saved
            }
        } else {
            let bytes = cell.bytes - cell.payloadLength + payload.count
            let offset = page.upper - bytes
            guard page.lower <= offset else { return false }
            deadBytes += cell.bytes
            TouchedCells(base).note(offset, page.upper)
            Cell(base + offset).write(suffix: key.bytes + prefixLength, length: cell.suffixLength, payload: payload)
            setCellOffset(slot, offset)
            page.upper = offset
        }
        if payload.isOverflow { page.flags |= Self.mayOverflowFlag }
        return true
    }

    /// Takes a slot and its cell away. The cell's bytes stay, as dead ones.
    func remove(_ slot: Int, _ number: PageNumber) throws(EngineError) {
        let count = self.count
        guard slot < count else { throw damaged(number, "it has no slot \(slot)") }
        let bytes = try cell(slot, number).bytes
        if count == 1 {
            self.count = 0
            page.upper = Page.bytes
            prefixLength = 0
            deadBytes = 0
            return
        }
        if cellOffset(slot) == page.upper { page.upper += bytes } else { deadBytes += bytes }
        let place = base + (Self.slotStart + slot * Self.slotBytes)
        memmove(place, place + Self.slotBytes, (count - slot - 1) * Self.slotBytes)
        self.count = count - 1
    }

    /// Takes the child at `index` and the separator beside it out of a branch of at least two children.
    func removeChild(_ index: Int, _ number: PageNumber) throws(EngineError) {
        if index == 0 { firstChild = try child(1, number) }
        try remove(max(0, index - 1), number)
    }

    /// Makes this an empty page of its kind; the page header's number and LSN stay.
    func clear(level: Int) {
        page.rawKind = (level == 0 ? PageKind.leaf : PageKind.branch).rawValue
        page.level = UInt8(level)
        page.flags = 0
        memset(base + Page.headerBytes, 0, Self.slotStart - Page.headerBytes)
        count = 0
        page.upper = Page.bytes
    }
}
