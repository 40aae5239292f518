import HoldfastCore
import HoldfastEngine
import Testing

@Suite("Recovery stops at exactly the commit that was asked for")
struct RecoveryTargetTests {
    private func commit(_ first: UInt64, _ last: UInt64, _ end: UInt64, _ time: Int64) -> ReplayPoint {
        ReplayPoint(kind: .commit(first: TransactionID(first), last: TransactionID(last)), end: LSN(end), time: time)
    }

    /// The end of the last point applied, and whether the judge stopped there by itself.
    private func replay(_ target: RecoveryTarget, inclusive: Bool = true) throws -> (LSN, Bool) {
        let judge = TargetJudge(target: target, isInclusive: inclusive)
        let log = [
            commit(1, 1, 100, 10), commit(2, 4, 200, 20),
            ReplayPoint(kind: .restorePoint("a"), end: LSN(250), time: 25),
            commit(5, 5, 300, 30), ReplayPoint(kind: .other, end: LSN(350), time: nil), commit(6, 6, 400, 30),
            ReplayPoint(kind: .restorePoint("a"), end: LSN(450), time: 45),
        ]
        var end = LSN(0)
        for point in log {
            switch try judge.judge(point) {
            case .apply: end = point.end
            case .stopBefore: return (end, true)
            case .stopAfter: return (point.end, true)
            }
        }
        return (end, judge.isReached(atEnd: end))
    }

    @Test("D5: each kind of target, inclusive and exclusive")
    func kinds() throws {
        #expect(try replay(.latest) == (LSN(450), true))
        #expect(try replay(.lsn(LSN(200))) == (LSN(200), true))
        #expect(try replay(.lsn(LSN(299))) == (LSN(250), true))
        #expect(try replay(.lsn(LSN(200)), inclusive: false) == (LSN(100), true))
        #expect(try replay(.lsn(LSN(450))) == (LSN(450), true))
        #expect(try replay(.lsn(LSN(451))) == (LSN(450), false))
        #expect(try replay(.time(microseconds: 30)) == (LSN(400), true))
        #expect(try replay(.time(microseconds: 30), inclusive: false) == (LSN(250), true))
        #expect(try replay(.time(microseconds: 44)) == (LSN(400), true))
        #expect(try replay(.time(microseconds: 45)) == (LSN(450), false), "nothing later shows that it was reached")
        #expect(try replay(.transaction(TransactionID(4))) == (LSN(200), true))
        #expect(try replay(.transaction(TransactionID(2)), inclusive: false) == (LSN(100), true))
        #expect(try replay(.transaction(TransactionID(7))) == (LSN(450), false))
        #expect(try replay(.name("a")) == (LSN(250), true))
        #expect(try replay(.name("b")) == (LSN(450), false))
    }

    @Test("D5: a transaction inside a fused commit is refused, naming both ends")
    func insideCommit() {
        for (id, inclusive) in [(2, true), (3, true), (3, false), (4, false)] as [(UInt64, Bool)] {
            let error = #expect(throws: RecoveryTargetError.self) {
                try replay(.transaction(TransactionID(id)), inclusive: inclusive)
            }
            #expect(error?.description.contains("2 to 4") == true)
            #expect(error?.diagnosis.status == .dataError)
        }
    }

    @Test("the signal file is read back as written, and its bytes are fixed")
    func signal() throws {
        let signal = RecoverySignal(
            cluster: "main", backup: "20261123T021500Z-full", hold: "restore-1", target: .lsn(LSN(0x3000028)),
            isInclusive: false, timeline: .number(TimelineID(3)), action: .pause, usesArchive: true, isForced: false)
        #expect(
            String(decoding: signal.encoded, as: UTF8.self) == """
                holdfast recovery signal 1
                cluster = main
                backup = 20261123T021500Z-full
                hold = restore-1
                target = lsn 0/3000028
                inclusive = false
                timeline = 3
                action = pause
                archive = true
                forced = false

                """)
        for target: RecoveryTarget in [
            .latest, .immediate, .time(microseconds: 1_795_400_100_123_456), .transaction(TransactionID(9)),
            .name("x.y"),
        ] {
            var other = signal
            other.target = target
            #expect(try RecoverySignal(decoding: other.encoded) == other)
        }
    }

    @Test("a damaged signal file is refused at every byte, or reads as something that it says")
    func damagedSignal() throws {
        let signal = RecoverySignal(
            cluster: "main", backup: "b", hold: "h", target: .name("n"), isInclusive: true, timeline: .latest,
            action: .promote, usesArchive: true, isForced: false)
        let bytes = signal.encoded
        for cut in 0..<bytes.count {
            #expect(throws: RecoverySignalError.self) { try RecoverySignal(decoding: Array(bytes[..<cut])) }
        }
        #expect(throws: RecoverySignalError.newerVersion("holdfast recovery signal 2")) {
            try RecoverySignal(
                decoding: Array(String(decoding: bytes, as: UTF8.self).replacing("signal 1", with: "signal 2").utf8))
        }
    }
}
