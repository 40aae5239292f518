import Glibc
import HoldfastCore

/// Finding a key in a page: the prefix once, then key heads without branches, then ties by whole keys.
extension Node {
    /// The first slot whose key is at or above `key` (`count` when there is none), and whether it is equal.
    @inline(__always)
    func search(_ key: Bytes, _ number: PageNumber) throws(EngineError) -> (slot: Int, found: Bool) {
        let count = self.count
        if count == 0 { return (0, false) }
        let prefixLength = self.prefixLength
        if prefixLength > 0 {
            let order = memcmp(key.bytes, prefix, min(prefixLength, key.count))
            if order > 0 { return (count, false) }
            if order < 0 || key.count < prefixLength { return (0, false) }
        }
        let suffix = Bytes(key.bytes + prefixLength, key.count - prefixLength)
        let head = Self.head(suffix.bytes, suffix.count)
        var low = firstSlot(atOrAbove: head, count)
        if low == count || self.head(low) != head { return (low, false) }
        // Equal heads: as a rule there is one, so look before searching for the end of the run.
        var high = low + 1
        if high < count, self.head(high) == head {
            high = head == .max ? count : firstSlot(atOrAbove: head + 1, count)
        }
        while low < high {
            let middle = (low + high) / 2
            let order = Self.compare(try cell(middle, number), suffix)
            if order == 0 { return (middle, true) }
            if order < 0 { low = middle + 1 } else { high = middle }
        }
        return (low, false)
    }

    /// The index in `0 ... count` of the child that covers `key`.
    @inline(__always) func childIndex(_ key: Bytes, _ number: PageNumber) throws(EngineError) -> Int {
        let (slot, found) = try search(key, number)
        return found ? slot + 1 : slot
    }

    /// Without a branch that depends on the keys: the processor would guess half of them wrong.
    @inline(__always) private func firstSlot(atOrAbove head: UInt32, _ count: Int) -> Int {
        var low = 0, length = count
        let wanted = Int64(head)
        while length > 1 {
            let half = length >> 1
            let below = (Int64(self.head(low &+ half &- 1)) &- wanted) >> 63
            low = low &+ (half & Int(below))
            length = length &- half
        }
        return low &+ (self.head(low) < head ? 1 : 0)
    }

    /// The order of a cell's key and one with the same head; `suffix` is that key behind the prefix.
    @inline(__always) private static func compare(_ cell: Cell, _ suffix: Bytes) -> Int {
        let restLength = max(0, suffix.count - headBytes)
        let common = min(cell.restLength, restLength)
        if common > 0 {
            let order = memcmp(cell.rest, suffix.bytes + headBytes, common)
            if order != 0 { return Int(order) }
        }
        // A head padded with zeros may equal a longer key's head; then the shorter key is the lesser.
        return cell.suffixLength - suffix.count
    }

    /// Whether the key of slot `a` is below that of slot `b`, or `a` is `b`.
    func isOrdered(_ a: Int, _ b: Int, _ number: PageNumber) throws(EngineError) -> Bool {
        if a == b || head(a) < head(b) { return true }
        if head(a) > head(b) { return false }
        let first = try cell(a, number), second = try cell(b, number)
        let order = Bytes(first.rest, first.restLength).compare(Bytes(second.rest, second.restLength))
        return order < 0 || order == 0 && first.suffixLength < second.suffixLength
    }

    /// Writes the whole key of a slot to `buffer`, which has room for `Limits.keyBytes` and 4 more.
    /// - Returns: its length.
    @inline(__always)
    func copyKey(_ slot: Int, of number: PageNumber, to buffer: UnsafeMutableRawPointer) throws(EngineError) -> Int {
        let cell = try cell(slot, number)
        copyPrefix(to: buffer)
        let place = buffer + prefixLength
        place.storeBytes(of: head(slot).bigEndian, as: UInt32.self)
        if cell.restLength > 0 { memcpy(place + Self.headBytes, cell.rest, cell.restLength) }
        return prefixLength + cell.suffixLength
    }

    @inline(__always) func copyPrefix(to buffer: UnsafeMutableRawPointer) { memcpy(buffer, prefix, prefixLength) }

    /// Bytes behind the longest key that `copySuffix` may overwrite.
    static var copySlack: Int { 24 }

    /// Writes what a slot's key has behind the prefix, whose place `buffer` begins with; the buffer has room for
    /// `Limits.keyBytes` and `copySlack` more.
    /// - Returns: the length of the whole key.
    @inline(__always) func copySuffix(_ slot: Int, _ cell: Cell, to buffer: UnsafeMutableRawPointer) -> Int {
        let place = buffer + prefixLength, restLength = cell.restLength
        place.storeBytes(of: head(slot).bigEndian, as: UInt32.self)
        if restLength > 0 {
            // Short rests in one move, where the page has as many bytes: no call, and no branch on the length.
            if restLength <= 16, cell.rest + 16 <= UnsafeRawPointer(base) + Page.bytes {
                let rest = cell.rest.loadUnaligned(as: SIMD2<UInt64>.self)
                (place + Self.headBytes).storeBytes(of: rest, as: SIMD2<UInt64>.self)
            } else {
                memcpy(place + Self.headBytes, cell.rest, restLength)
            }
        }
        return prefixLength + cell.suffixLength
    }
}
