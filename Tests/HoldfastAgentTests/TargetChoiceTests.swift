@testable import HoldfastAgent
import HoldfastCore
import HoldfastEngine
import HoldfastRestore
import Testing

@Suite("A recovery target says one thing, or is refused before anything is looked at")
struct TargetChoiceTests {
    private func request(_ choice: TargetChoice) throws -> RestoreRequest {
        var request = RestoreRequest(data: "/d")
        try choice.apply(to: &request)
        return request
    }

    @Test("D5: each kind of target is understood")
    func kinds() throws {
        #expect(try request(TargetChoice()).target == .latest)
        #expect(try request(TargetChoice(isImmediate: true)).target == .immediate)
        #expect(try request(TargetChoice(lsn: "0/3000028")).target == .lsn(LSN(0x3000028)))
        #expect(try request(TargetChoice(name: "before")).target == .name("before"))
        #expect(try request(TargetChoice(transaction: "17")).target == .transaction(TransactionID(17)))
        let time = try request(TargetChoice(time: "2026-11-24T02:00:00+01:00", isExclusive: true))
        #expect(time.target == .time(microseconds: Timestamp.parse("2026-11-24T01:00:00Z")!))
        #expect(!time.isInclusive)
        #expect(try request(TargetChoice(timeline: "current")).timeline == .current)
        #expect(try request(TargetChoice(timeline: "3", action: "pause")).timeline == .number(TimelineID(3)))
    }

    @Test(
        "D5: conflicting and impossible targets are refused with what is wrong",
        arguments: [
            (
                TargetChoice(lsn: "0/1", name: "a"),
                "--target-lsn and --target-name exclude each other\nhint: give one target"
            ),
            (
                TargetChoice(time: "2026-11-24T02:00:00"),
                "--target-time cannot be used: \"2026-11-24T02:00:00\" is not RFC 3339 with a zone, such as 2026-11-24T02:00:00+01:00\nhint: correct it"
            ),
            (
                TargetChoice(lsn: "nonsense"),
                "--target-lsn cannot be used: \"nonsense\" is not an LSN such as 0/3000028\nhint: correct it"
            ),
            (
                TargetChoice(transaction: "0"),
                "--target-transaction cannot be used: \"0\" is not a transaction's number\nhint: correct it"
            ),
            (
                TargetChoice(timeline: "newest"),
                "--target-timeline cannot be used: \"newest\" is not current, latest, or a timeline's number\nhint: correct it"
            ),
            (
                TargetChoice(isExclusive: true),
                "--exclusive needs a target: only a time, an LSN, a transaction or a name has a before\nhint: give one, or leave it out"
            ),
        ])
    func refusals(choice: TargetChoice, message: String) {
        do {
            _ = try request(choice)
            Issue.record("accepted")
        } catch {
            #expect("\(error)" == message)
            #expect((error as? any DiagnosableError)?.diagnosis.status == .usage)
        }
    }

    @Test("S3: a restore point's name is checked before any I/O and not printed raw")
    func badName() {
        #expect(throws: TargetChoice.Failure.self) { try request(TargetChoice(name: "../../etc")) }
    }
}
