import CShims
import HoldfastCore
import HoldfastTestSupport
import HoldfastWAL
import Testing

@testable import HoldfastEngine

@Suite("Control file and backup label: their bytes are fixed")
struct FormatTests {
    private var data: ControlData {
        var data = ControlData(
            state: .running, system: SystemIdentifier(rawValue: 0x0102_0304_0506_0708), timeline: TimelineID(3),
            token: TimelineToken(rawValue: 0x1112_1314_1516_1718), redo: LSN(0x3000_0028), redoChain: 0xAABB_CCDD)
        data.isArchiving = true
        data.checkpointLSN = LSN(0x3000_0100)
        data.redo.timeline = TimelineID(2)
        data.knownDurableEnd = LSN(0x3000_2000)
        data.ownFrom = .init(timeline: TimelineID(3), lsn: LSN(0x2000_0000))
        data.minimumRecoveryPoint = .init(timeline: TimelineID(2), lsn: LSN(0x3000_0200))
        data.demand = .init(timeline: TimelineID(1), start: LSN(0x1000_0000), stop: LSN(0x1800_0000))
        data.lastTransaction = TransactionID(77)
        data.lastCommitTime = 1_700_000_000_000_000
        data.greatestRedo = LSN(0x3000_0028)
        data.checkpointTime = 1_700_000_000_000_001
        data.command = "holdfast restore --cluster main"
        return data
    }

    @Test("a control slot's bytes, field by field, and back")
    func golden() throws {
        let slot = data.encoded(sequence: 9)
        #expect(slot.count == 4096)
        func hex(_ range: Range<Int>) -> String { slot[range].map { hexadecimal(UInt64($0), digits: 2) }.joined() }
        #expect(String(decoding: slot[0..<8], as: UTF8.self) == "HOLDFCTL")
        #expect(
            hex(8..<48) == "0100000002000000" + "0900000000000000" + "0807060504030201" + "0300000003000000"
                + "1817161514131211")
        #expect(hex(48..<80) == "0001003000000000" + "2800003000000000" + "DDCCBBAA02000000" + "0020003000000000")
        #expect(
            hex(80..<128) == "0000002000000000" + "0300000002000000" + "0002003000000000" + "0000001000000000"
                + "0000001800000000" + "0100000000000000")
        #expect(
            hex(128..<162) == "4D00000000000000" + "00401E18240A0600" + "2800003000000000" + "01401E18240A0600" + "1F00"
        )
        #expect(String(decoding: slot[162..<193], as: UTF8.self) == data.command)
        #expect(slot[193..<4092].allSatisfy { $0 == 0 })
        #expect(hex(4092..<4096) == "57D54238")
        let (read, sequence) = try ControlData.decode(slot)
        #expect(read == data && sequence == 9)
    }

    @Test("S9: a last transaction behind which there is no other is damage")
    func impossibleTransaction() throws {
        var last = data
        last.lastTransaction = .last
        #expect(try ControlData.decode(last.encoded(sequence: 1)).data == last)
        last.lastTransaction = TransactionID(UInt64.max)
        #expect(throws: ControlFault.self) { try ControlData.decode(last.encoded(sequence: 1)) }
    }

    @Test(
        "any flipped bit of a slot is found; a long command is cut at a character")
    func damage() throws {
        let slot = data.encoded(sequence: 9)
        for at in slot.indices {
            var damaged = slot
            damaged[at] ^= 1 << UInt8(at % 8)
            #expect(throws: ControlFault.self) { try ControlData.decode(damaged) }
        }
        var long = data
        long.command = String(repeating: "ä", count: 3000)
        #expect(try ControlData.decode(long.encoded(sequence: 1)).data.command == String(repeating: "ä", count: 1024))
        let disk = SimulatedDisk(seed: 1)
        let file = try ControlFile.create(on: disk, data)
        try file.write(long)
        #expect(try ControlFile(opening: disk).current == long.cutForTest)
        #expect(file.oldestRedo == data.redo.lsn)
    }

    /// A directory with a log of several segments, closed in order.
    private func closed() throws -> SimulatedDisk {
        let disk = try CrashTests.initialized(seed: 21)
        let engine = try Engine(opening: disk, options: quietOptions())
        try engine.write { try $0.put("t", bytes("a"), bytes("1")) }
        try engine.checkpoint()
        for round in 0..<3 {
            try engine.write { try $0.put("t", bytes("b"), bytes("\(round)")) }
            try engine.switchWAL()
        }
        try engine.write { try $0.put("t", bytes("c"), bytes("1")) }
        engine.abandon()
        return disk.afterKill(seed: 1)
    }

    /// Opening is refused as being of a newer version, with what to do, and changes no byte of any file.
    private func expectRefused(_ disk: SimulatedDisk, at place: String, _ options: EngineOptions = quietOptions()) {
        let before = disk.contents()
        do {
            _ = try Engine(opening: disk, options: options)
            Issue.record("\(place): opened")
        } catch let error as any DiagnosableError {
            let diagnosis = error.diagnosis
            #expect(diagnosis.description.contains("newer"), "\(place): \(diagnosis)")
            #expect(diagnosis.description.contains(place), "\(place): \(diagnosis)")
            #expect(diagnosis.next?.contains("use the") == true, "\(place): \(diagnosis)")
            #expect(diagnosis.status == .dataError, "\(place): \(diagnosis)")
        } catch { Issue.record("\(place): \(error)") }
        let isUnchanged = disk.contents() == before
        #expect(isUnchanged, "\(place): something was changed")
    }

    /// Raises the version at `version`, and stamps the checksum over all before `checksum`.
    private func raise(_ disk: SimulatedDisk, _ path: String, slot: Int = 0, checksum: Int) {
        disk.damage(path) { bytes in
            bytes[slot + 8] += 1
            let crc = bytes.withUnsafeBytes { hf_crc32c(0, $0.baseAddress! + slot, checksum) }
            withUnsafeBytes(of: crc.littleEndian) {
                bytes.replaceSubrange(slot + checksum..<slot + checksum + 4, with: $0)
            }
        }
    }

    @Test("S9: a control slot, either of them, of a newer version: refused, and nothing is changed")
    func newerControl() throws {
        let base = try closed()
        for slots in [[0, 1], [0], [1]] {
            let disk = base.afterKill(seed: 1)
            for slot in slots {
                raise(disk, ControlData.path, slot: slot * ControlData.slotBytes, checksum: ControlData.slotBytes - 4)
            }
            expectRefused(disk, at: ControlData.path)
        }
    }

    @Test("S9: a segment of the log, any of them that is read, of a newer version: refused, and nothing is changed")
    func newerSegment() throws {
        let base = try closed()
        let names = try base.list("wal").compactMap { SegmentName($0) }
        #expect(names.count >= 4)
        for name in names.prefix(4) {
            let disk = base.afterKill(seed: 1)
            raise(disk, name.walPath, checksum: 60)
            expectRefused(disk, at: name.walPath)
        }
    }

    @Test("S9: a label, recovery settings or a promotion of a newer version: refused, and nothing is changed")
    func newerRestore() throws {
        let node = try RestoredNode(seed: 5)
        var options = quietOptions()
        options.recovery = node.archive
        for path in [RecoverySignal.fileName, PromoteSignal.path] {
            let disk = node.disk.afterKill(seed: 1)
            if path == PromoteSignal.path {
                let signal = PromoteSignal(
                    timeline: TimelineID(2), token: .random(), switchLSN: node.target, chain: 1)
                try disk.replaceAtomically(path, with: signal.encoded)
            }
            disk.damage(path) { bytes in
                let text = String(decoding: bytes, as: UTF8.self)
                bytes = Array(text.replacing("signal 1\n", with: "signal 9\n").utf8)
            }
            expectRefused(disk, at: path, options)
        }
    }

    @Test("the backup label's text, and back")
    func label() throws {
        let label = BackupLabel(
            start: LSN(0x3000_0028), timeline: TimelineID(2), token: TimelineToken(rawValue: 0x123),
            checkpoint: LSN(0x3000_0060),
            stop: LSN(0x5000_0150), system: SystemIdentifier(rawValue: 42), label: "nightly",
            startTime: 1_700_000_000_000_000, stopTime: 1_700_000_001_000_000)
        let text = String(decoding: label.encoded(), as: UTF8.self)
        #expect(
            text.hasPrefix(
                """
                holdfast backup label 1
                start = 0/30000028
                timeline = 00000002
                token = 0000000000000123
                checkpoint = 0/30000060
                stop = 0/50000150
                system = 42
                label = nightly
                started = 2023-11-14T22:13:20.000000Z
                stopped = 2023-11-14T22:13:21.000000Z
                crc32c = 
                """))
        #expect(try BackupLabel(decoding: label.encoded()) == label)
        for at in label.encoded().indices {
            var damaged = label.encoded()
            damaged[at] ^= 4
            #expect(throws: EngineError.self) { try BackupLabel(decoding: damaged) }
        }
    }
}

extension ControlData {
    /// As it is read back: with the command cut.
    fileprivate var cutForTest: ControlData {
        var cut = self
        cut.command = String(command.prefix(1024))
        return cut
    }
}
