import HoldfastCore
import HoldfastTestSupport
import Testing

@testable import HoldfastWAL

@Suite("The log ends at its last good commit, and nowhere else")
struct EndOfLogTests {
    /// Commits 1 ... `count`, each flushed by itself, with a witness behind the last when asked for.
    private func log(_ count: Int, witness: Bool = false, seed: UInt64 = 1) throws -> (SimulatedDisk, Reading) {
        let disk = try makeDisk(seed: seed)
        let writer = try makeWriter(disk)
        for number in 1...count {
            try writer.appendCommit(number, fill: 40)
            try writer.flush(through: writer.appendedLSN)
        }
        if witness { try writer.flush(through: try writer.appendWitness()) }
        return (disk, try read(disk))
    }

    private let name = SegmentName(timeline: .first, segment: SegmentNumber(1))

    @Test("B1: the log cut at each byte of its last record ends at the commit before")
    func cutAtEachByte() throws {
        let (disk, whole) = try log(3)
        let bytes = disk.contents()[segmentPath(1)]!
        let from = LogLayout.offset(whole.starts[2]), to = LogLayout.offset(whole.ends[2])
        for cut in from..<to {
            // Zeros behind the cut, as in a zero-filled segment; a file that ends there; rubbish behind it.
            var zeroed = bytes
            for at in cut..<to { zeroed[at] = 0 }
            var rubbish = bytes
            for at in cut..<to { rubbish[at] = ~bytes[at] }
            for variant in [zeroed, Array(bytes[..<cut]), rubbish] {
                let reading = try read(MemorySegmentSource([name: variant]))
                // The record's last bytes are padding: zeros there are what they were.
                let isWhole = variant.count == bytes.count && variant == bytes
                #expect(reading.commits == (isWhole ? [1, 2, 3] : [1, 2]), "cut at \(cut)")
            }
        }
    }

    @Test("B1: a zero or absurd length, a bad checksum, a wrong LSN end the log with that reason")
    func reasons() throws {
        let (disk, whole) = try log(3)
        let bytes = disk.contents()[segmentPath(1)]!
        let at = LogLayout.offset(whole.starts[2])
        func end(_ change: (inout [UInt8]) -> Void) throws -> LogEndReason {
            var changed = bytes
            change(&changed)
            let reading = try read(MemorySegmentSource([name: changed]))
            #expect(reading.commits == [1, 2])
            #expect(reading.end.position == whole.ends[1])
            return reading.end.reason
        }
        #expect(try end { $0.replaceSubrange(at..<at + 32, with: repeatElement(0, count: 32)) } == .zeros)
        #expect(try end { $0.replaceSubrange(at + 4..<at + 8, with: [0, 0, 0, 0]) } == .length(0))
        #expect(try end { $0[at + 8] ^= 8 } == .wrongLSN(LSN(whole.starts[2].rawValue ^ 8)))
        #expect(try end { $0[at + 40] ^= 1 } == .checksum)
        #expect(try end { $0[at + 28] = 99 } == .checksum)
    }

    @Test(
        "S9: record lengths of 0, 1, 31, 2^31, 2^32-1 and beyond the segment are refused, with a checksum that fits or not"
    )
    func hostileLengths() throws {
        let (disk, whole) = try log(3)
        let bytes = disk.contents()[segmentPath(1)]!
        let at = LogLayout.offset(whole.starts[2])
        let room = UInt32(SegmentNumber.bytes - at)
        for length: UInt32 in [
            0, 1, 8, 31, room - 7, room + 1, 1 << 20 + 1, 1 << 31, 0x7FFF_FFFF, UInt32.max - 7, UInt32.max,
        ] {
            var changed = bytes
            withUnsafeBytes(of: length.littleEndian) { changed.replaceSubrange(at + 4..<at + 8, with: $0) }
            #expect(try read(MemorySegmentSource([name: changed])).commits == [1, 2], "length \(length)")
            // A filler may be as long as its segment, and no longer.
            changed[at + 28] = RecordKind.filler.rawValue
            #expect(try read(MemorySegmentSource([name: changed])).commits == [1, 2], "filler of \(length)")
        }
    }

    @Test("B1, S9: a record longer than any may be is refused, although its checksum fits")
    func overlongRecord() throws {
        let (disk, whole) = try log(3)
        var bytes = disk.contents()[segmentPath(1)]!
        let at = LogLayout.offset(whole.starts[2])
        let length = LogLayout.maximumRecordBytes + 8
        bytes.withUnsafeMutableBytes { segment in
            let base = segment.baseAddress! + at
            base.storeBytes(of: UInt32(length).littleEndian, toByteOffset: 4, as: UInt32.self)
            RecordHeader(base).crc = RecordChecksum(system: testSystem, timeline: .first).of(base, length: length)
        }
        let reading = try read(MemorySegmentSource([name: bytes]))
        #expect(reading.commits == [1, 2])
        #expect(reading.end.reason == .length(UInt32(length)))
    }

    @Test("S9: any bytes at all are read without a trap, and without a record that was not written")
    func randomBytes() throws {
        let (disk, whole) = try log(4)
        let bytes = Array(disk.contents()[segmentPath(1)]![..<8192])
        var random = SeededGenerator(seed: SeededGenerator.announcedSeed("hostile segment"))
        for _ in 0..<400 {
            var changed = bytes
            for _ in 0..<Int.random(in: 1...20, using: &random) {
                changed[Int.random(in: 0..<LogLayout.offset(whole.ends[3]), using: &random)] =
                    UInt8.random(in: 0...255, using: &random)
            }
            let reading = try read(MemorySegmentSource([name: changed]))
            #expect(reading.commits == Array([1, 2, 3, 4].prefix(reading.commits.count)))
        }
    }

    @Test("B2: a valid record behind a torn one, left by an earlier life of the log, does not follow")
    func staleRecord() throws {
        let (disk, first) = try log(3)
        // The same log written again from the second record on, with the third's place torn: record 3 of the
        // earlier life verifies alone at its place.
        let stale = disk.contents()[segmentPath(1)]!
        var start = first.start
        start.position = first.ends[0]
        let again = try makeDisk()
        let writer = try makeWriter(again)
        try writer.appendCommit(1, fill: 40)
        try writer.flush(through: writer.appendedLSN)
        try writer.appendCommit(20, fill: 40)
        try writer.flush(through: writer.appendedLSN)
        var bytes = again.contents()[segmentPath(1)]!
        let at = LogLayout.offset(first.starts[2]), end = LogLayout.offset(first.ends[2])
        #expect(writer.appendedLSN == first.starts[2])
        bytes.replaceSubrange(at..<end, with: stale[at..<end])
        let reading = try read(MemorySegmentSource([name: bytes]))
        #expect(reading.commits == [1, 20])
        #expect(reading.end.reason == .doesNotFollow)
    }

    @Test("B2: a recycled segment's bytes, another timeline's and another cluster's are not accepted")
    func foreignBytes() throws {
        let (disk, whole) = try log(3)
        let bytes = disk.contents()[segmentPath(1)]!
        // Recycled: the bytes of segment 1 under the name of segment 2.
        let filled = try makeDisk()
        let writer = try makeWriter(filled)
        try writer.appendCommit(1)
        let second = try writer.switchSegment()
        try writer.flush(through: second)
        let one = filled.contents()[segmentPath(1)]!
        let recycled = try read(
            MemorySegmentSource([name: one, SegmentName(timeline: .first, segment: SegmentNumber(2)): bytes]))
        #expect(recycled.commits == [1])
        #expect(recycled.end.position == second)
        #expect(recycled.end.reason == .foreignSegment("an old one, of 0/1000000"))

        let otherCluster = try read(
            MemorySegmentSource([name: bytes]), system: SystemIdentifier(rawValue: 99))
        #expect(otherCluster.commits == [])
        let otherToken = try read(
            MemorySegmentSource([name: bytes]), history: TimelineHistory(first: TimelineToken(rawValue: 5)))
        #expect(otherToken.commits == [])
        let otherTimeline = try read(
            MemorySegmentSource([SegmentName(timeline: TimelineID(2), segment: SegmentNumber(1)): bytes]),
            history: TimelineHistory(first: testToken, timeline: TimelineID(2)))
        #expect(otherTimeline.commits == [])

        // Records alone, under a sound header of their own: the seed tells them apart.
        for identity in [
            LogIdentity(system: SystemIdentifier(rawValue: 99), timeline: .first, token: testToken),
            LogIdentity(system: testSystem, timeline: TimelineID(2), token: testToken),
        ] {
            let foreign = try makeDisk()
            let writer = try makeWriter(foreign, identity: identity)
            try writer.appendCommit(1, fill: 40)
            try writer.flush(through: writer.appendedLSN)
            let path = SegmentName(timeline: identity.timeline, segment: SegmentNumber(1)).walPath
            var mixed = foreign.contents()[path]!
            mixed.replaceSubrange(..<64, with: bytes[..<64])
            let reading = try read(MemorySegmentSource([name: mixed]))
            #expect(reading.commits == [])
            #expect(reading.end.reason == .checksum)
        }
        #expect(whole.commits == [1, 2, 3])
    }

    @Test("B2: a segment's header alone says whose it is, whatever its records are")
    func foreignHeaders() throws {
        let bytes = try log(1).0.contents()[segmentPath(1)]!
        let other = SystemIdentifier(rawValue: 99)
        #expect(
            try read(MemorySegmentSource([name: bytes]), system: other).end.reason
                == .foreignSegment("one of the cluster \(testSystem)"))
        let second = SegmentName(timeline: TimelineID(2), segment: SegmentNumber(1))
        #expect(
            try read(
                MemorySegmentSource([second: bytes]),
                history: TimelineHistory(first: testToken, timeline: TimelineID(2))
            ).end.reason == .foreignSegment("one of timeline \(TimelineID.first)"))
    }

    @Test(
        "B3: damage before a place that a later record shows to have been durable is refused, with the LSN and the way out"
    )
    func damageBeforeMark() throws {
        let (disk, whole) = try log(5, witness: true)
        // Damage in any record but the witness and its filler: the witness speaks for all of them.
        for index in 0..<5 {
            let damaged = disk.afterKill(seed: 1)
            damaged.damage(segmentPath(1)) { $0[LogLayout.offset(whole.starts[index]) + 33] ^= 4 }
            let reading = try read(damaged)
            #expect(reading.commits.count == index)
            do throws(WALError) {
                _ = try judge(damaged, reading.end)
                Issue.record("record \(index): taken for the end of the log")
            } catch {
                let text = error.description
                #expect(text.contains(whole.starts[index].description) || index == 0, "\(text)")
                #expect(text.contains("restore") && error.diagnosis.status == .dataError)
            }
        }
    }

    @Test("B3: only the last batch before a witness can be taken for a torn tail when it rots")
    func lastBatch() throws {
        let (disk, whole) = try log(5)
        for index in 0..<5 {
            let damaged = disk.afterKill(seed: 1)
            damaged.damage(segmentPath(1)) { $0[LogLayout.offset(whole.starts[index]) + 33] ^= 4 }
            let reading = try read(damaged)
            // Record 5 bears a mark behind record 4: that 4 was durable shows; of 5 nothing does.
            #expect(
                isDamage { () throws(WALError) in try judge(damaged, reading.end) } == (index < 4), "record \(index)")
            // A node that did not write the log itself may not judge by marks; the control file's word counts.
            #expect(try judge(damaged, reading.end, own: false) == .end)
            #expect(
                isDamage { () throws(WALError) in try judge(damaged, reading.end, known: whole.ends[4], own: false) })
        }
    }

    @Test("B3: a damaged segment header in the middle is refused")
    func damagedHeader() throws {
        let disk = try makeDisk()
        let writer = try makeWriter(disk)
        try writer.appendCommit(1)
        try writer.flush(through: try writer.switchSegment())
        for number in 2...3 {
            try writer.appendCommit(number)
            try writer.flush(through: writer.appendedLSN)
        }
        // One byte of each field and of the reserved rest.
        for at in [0, 8, 12, 16, 24, 32, 40, 44, 50, 60] {
            let damaged = disk.afterKill(seed: 1)
            damaged.damage(segmentPath(2)) { $0[at] ^= 1 }
            let reading = try read(damaged)
            #expect(reading.commits == [1])
            #expect(isDamage { () throws(WALError) in try judge(damaged, reading.end) }, "byte \(at)")
        }
    }

    @Test(
        "B4: a missing segment in the middle is refused; the last, never durable, is the end; a read error is neither")
    func missingSegments() throws {
        let disk = try makeDisk()
        let writer = try makeWriter(disk)
        var ends: [LSN] = []
        for number in 1...3 {
            try writer.appendCommit(number)
            ends.append(try writer.switchSegment())
            try writer.flush(through: ends[number - 1])
        }
        for missing in 1...3 as ClosedRange<UInt64> {
            let lost = disk.afterKill(seed: 1)
            lost.lose(segmentPath(missing))
            let reading = try read(lost)
            #expect(reading.end.reason == .missingSegment)
            #expect(reading.commits.count == Int(missing) - 1)
            for own in [true, false] where missing < 3 {
                #expect(isDamage { () throws(WALError) in try judge(lost, reading.end, own: own) })
            }
            if missing == 3 {
                #expect(try judge(lost, reading.end) == .end)
                #expect(isDamage { () throws(WALError) in try judge(lost, reading.end, known: ends[2]) })
            }
        }
        disk.injectFaults { $0.kind == .read && $0.path == segmentPath(2) ? .error(.inputOutput) : nil }
        #expect(throws: WALError.self) { try read(disk) }
    }

    @Test("what was received and durable is to be fetched again, not called damage")
    func received() throws {
        let (disk, whole) = try log(3)
        disk.damage(segmentPath(1)) { $0[LogLayout.offset(whole.starts[1]) + 33] ^= 4 }
        let reading = try read(disk)
        let verdict = try EndOfLog(disk: disk, system: testSystem).judge(
            reading.end, EndEvidence(knownDurableEnd: .zero, ownFrom: nil, receivedThrough: whole.ends[2]))
        #expect(verdict == .fetchAgain(from: whole.ends[0], through: whole.ends[2]))
    }

    @Test("what lies behind the end is zeroed and later segments are removed, durably; the log goes on there")
    func clears() throws {
        let disk = try makeDisk()
        let writer = try makeWriter(disk)
        try writer.appendCommit(1)
        try writer.flush(through: writer.appendedLSN)
        let end = try read(disk).end
        try writer.appendCommit(2, pages: 2500, fill: 8000)
        try writer.flush(through: writer.appendedLSN)
        // As if the large commit had been torn in its first record.
        disk.damage(segmentPath(1)) { $0[LogLayout.offset(end.position) + 40] ^= 1 }
        let found = try read(disk)
        #expect(found.end.position == end.position)
        try EndOfLog(disk: disk, system: testSystem).clearBehind(found.end)
        let after = disk.restart(seed: 3)
        #expect(try EndOfLog(disk: after, system: testSystem).segments() == [name])
        #expect(after.contents()[segmentPath(1)]![LogLayout.offset(end.position)...].allSatisfy { $0 == 0 })
        let second = try makeWriter(after, found.start)
        try second.appendCommit(3)
        try second.flush(through: second.appendedLSN)
        #expect(try read(after).commits == [1, 3])
    }

    @Test("A4: the power fails at every call of the clearing: the next start finds the same end, and no gap behind it")
    func interruptedClearing() throws {
        let base = try makeDisk()
        let writer = try makeWriter(base)
        try writer.appendCommit(1)
        let second = try writer.switchSegment()
        try writer.flush(through: second)
        // Segments that were made ahead: the log ends where the first of them begins.
        for number in 2...5 as ClosedRange<UInt64> {
            let file = try base.open(segmentPath(number), .createOrOpen)
            try file.setSize(UInt64(SegmentNumber.bytes))
            try file.sync()
        }
        try base.syncDirectory("wal")
        let end = try read(base).end
        #expect(end.position == second)
        var call = 0
        var isWhole = false
        while !isWhole {
            call += 1
            for seed in 1...8 as ClosedRange<UInt64> {
                let disk = base.afterKill(seed: seed)
                disk.failPower(atCall: disk.calls + call)
                let cleared = Result { try EndOfLog(disk: disk, system: testSystem).clearBehind(end) }
                if case .success = cleared { isWhole = true }
                let after = disk.restart(seed: seed &* 31 &+ UInt64(call))
                let again = try read(after).end
                #expect(again.position == end.position)
                #expect(try judge(after, again) == .end, "call \(call), seed \(seed)")
            }
        }
        #expect(call > 4)
    }

    @Test("parts of a commit whose end never came are dropped, and new commits behind them count")
    func orphanedParts() throws {
        let disk = try makeDisk()
        let writer = try makeWriter(disk)
        try writer.appendCommit(1)
        try writer.appendCommit(2, pages: 400, fill: 8000)
        try writer.flush(through: writer.appendedLSN)
        let whole = try read(disk)
        let last = try #require(whole.starts.last)
        disk.damage(segmentPath(1)) { $0[LogLayout.offset(last) + 50] ^= 1 }
        let found = try read(disk)
        #expect(found.commits == [1] && found.end.position == last)
        try EndOfLog(disk: disk, system: testSystem).clearBehind(found.end)
        let again = try makeWriter(disk, found.start)
        try again.appendCommit(3)
        try again.flush(through: again.appendedLSN)
        #expect(try read(disk).commits == [1, 3])
    }

    @Test("S9: a commit of impossible transactions is refused, and not counted on from")
    func impossibleTransactions() throws {
        for (first, last) in [(UInt64(1), UInt64.max), (.max, .max), (1, 1 << 63)] {
            let disk = try makeDisk()
            let writer = try makeWriter(disk)
            _ = try writer.append(
                commit: commit(1), first: TransactionID(first), last: TransactionID(last), time: 1)
            try writer.flush(through: writer.appendedLSN)
            #expect(throws: WALError.self, "\(first) to \(last)") { try read(disk) }
        }
    }

    @Test(
        "S9: a reader that is told to begin at the last LSNs finds no segment there",
        arguments: [UInt64(0), 8, 40, 1 << 24])
    func lastLSN(distance: UInt64) throws {
        let start = LSN(UInt64.max - distance)
        let found = try read(MemorySegmentSource([:]), from: start)
        #expect(found.end.reason == .missingSegment && found.end.position >= start)
    }
}
