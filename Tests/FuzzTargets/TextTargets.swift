import HoldfastCore
import HoldfastEngine
import HoldfastRepository
import HoldfastWAL

/// Timeline histories: as they are, and with the last line's checksum put right.
package enum HistoryTarget: FuzzTarget {
    package static let name = "history"

    package static func seeds() throws -> [[UInt8]] {
        let first = TimelineHistory(first: TimelineToken(rawValue: 0x0123_4567_89AB_CDEF))
        let second = try first.branching(
            .init(timeline: TimelineID(2), switchLSN: LSN(0x300_0060), token: TimelineToken(rawValue: 7), reason: "no"))
        let third = try second.branching(
            .init(timeline: TimelineID(9), switchLSN: .max, token: TimelineToken(rawValue: 1), reason: "x\ty\u{7}"))
        return [first, second, third].map { $0.encoded() }
    }

    package static func run(_ input: UnsafeRawBufferPointer) {
        let bytes = Array(input)
        read(bytes)
        read(Stamp.lastLine(bytes) { "crc32c " + hexadecimal(UInt64($0), digits: 8) })
    }

    private static func read(_ bytes: [UInt8]) {
        guard let history = try? TimelineHistory(decoding: bytes) else { return }
        let again = try? TimelineHistory(decoding: history.encoded())
        expect(again == history, "a history that was accepted reads as another when it is written again")
        for entry in history.entries {
            let at = history.timeline(at: entry.switchLSN)
            expect(history.contains(at, entry.switchLSN), "\(entry.switchLSN) lies on no timeline of its own history")
            _ = history.timeline(ofFile: SegmentNumber(containing: entry.switchLSN))
            _ = history.end(of: entry.timeline)
            let cut = history.truncated(at: entry.switchLSN)
            expect(history.fork(from: cut) != nil, "a history and its own beginning share nothing")
            _ = try? TimelineHistory.ownToken(entry.timeline, bytes)
        }
    }
}

/// `backup_label`, `recovery.signal`, and the words that stand in them and on command lines.
package enum LabelTarget: FuzzTarget {
    package static let name = "label"

    package static func seeds() -> [[UInt8]] {
        let label = BackupLabel(
            start: LSN(0x100_0040), timeline: .first, token: TimelineToken(rawValue: 3), checkpoint: LSN(0x100_0100),
            stop: LSN(0x100_0200), system: SystemIdentifier(rawValue: 7), label: "nightly",
            startTime: 1_795_000_000_000_000, stopTime: 1_795_000_100_000_000)
        let targets: [RecoveryTarget] = [
            .latest, .immediate, .time(microseconds: 1_795_000_000_000_000), .lsn(LSN(77)),
            .transaction(TransactionID(17)), .name("before-upgrade"),
        ]
        let signals = targets.enumerated().map { number, target in
            RecoverySignal(
                cluster: "main", backup: "20261123T021500Z-full", hold: "restore-1", target: target,
                isInclusive: number % 2 == 0, timeline: [.current, .latest, .number(TimelineID(3))][number % 3],
                action: [.promote, .pause, .shutdown][number % 3], usesArchive: true, isForced: false
            ).encoded
        }
        let words = [
            "2026-11-23T02:15:00.000000Z", "2026-11-23 02:15:60,5+23:59", "20261123T021500Z-full", "16/B374D848",
            "000000010000000000000001", "FFFFFFFFFFFFFFFF000000FF", "0001-01-01T00:00:00-23:59",
        ]
        return [label.encoded()] + signals + words.map { Array($0.utf8) }
    }

    package static func run(_ input: UnsafeRawBufferPointer) {
        let bytes = Array(input)
        readLabel(bytes)
        readLabel(Stamp.lastLine(bytes) { "crc32c = " + hexadecimal(UInt64($0), digits: 8) })
        if let signal = try? RecoverySignal(decoding: bytes) {
            let again = try? RecoverySignal(decoding: signal.encoded)
            expect(again == signal, "a signal that was accepted reads as another when it is written again")
        }
        if let text = String(validating: bytes, as: UTF8.self) { readWords(text) }
        let number = bytes.withUnsafeBytes { bytes in
            var input = FuzzInput(bytes)
            return input.long()
        }
        // A record's time may be any number of 64 bits.
        _ = Timestamp(microseconds: Int64(bitPattern: number)).description
        _ = printable(bytes: bytes)
    }

    private static func readLabel(_ bytes: [UInt8]) {
        guard let label = try? BackupLabel(decoding: bytes) else { return }
        let again = try? BackupLabel(decoding: label.encoded())
        expect(again == label, "a label that was accepted reads as another when it is written again")
    }

    private static func readWords(_ text: String) {
        if let time = Timestamp(text) {
            expect(Timestamp(time.description) == time, "\(text) is \(time), which is another time")
        }
        if let lsn = LSN(text) { expect(LSN(lsn.description) == lsn, "\(text) is \(lsn)") }
        if let name = SegmentName(text) {
            expect(name.segment.end > name.segment.start, "segment \(name) has no end")
            expect(SegmentName(name.description) == name, "\(text) is \(name)")
        }
        if let id = BackupID(text) { expect(BackupID(id.description) == id, "\(text) is \(id)") }
        if let path = ObjectPath(text) { _ = path.parts }
        _ = (ObjectName.isValid(text), printable(text), SHA256Digest(hexadecimal: text))
    }
}
