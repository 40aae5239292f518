import CShims
import HoldfastCore
import HoldfastWAL

/// What a rewind has learnt from the node's own log, and what it needs to be repeated when the directory no longer tells it:
/// `plan` beside the list of transactions. Text, closed by a CRC32C over all before it:
///
///     holdfast rewind plan 1
///     system = 7172120844874714474
///     timeline = 00000001                    the node's own
///     end = 0/40001A8                        of its log
///     fork = 00000001 0/3000060              the last place in common
///     redo = 00000001 0/2000028 -            replay may begin here; the chain value there, - for unknown
///     checkpoint = 0/2000088 1764225594000000 1042      its record, time, last transaction
///     greatest_redo = 0/4000028
///     demand = -                             start and stop of a backup that replay must cover, and their timeline
///     lost = 17 0/3000120 0/4000100          transactions; first and last commit
///     pages = 16 2                           a run: first page, count; as often as need be
///     crc32c 1A2B3C4D
struct RewindPlan: Equatable, Sendable {
    private static let heading = "holdfast rewind plan 1"

    var system: SystemIdentifier
    var timeline: TimelineID
    var end: LSN
    var fork: ControlData.Position
    var redo: ControlData.Position
    var redoChain: UInt32?
    var checkpointLSN: LSN
    var checkpointTime: Int64
    var lastTransaction: TransactionID
    var greatestRedo: LSN
    var demand: ControlData.Demand?
    var lost: LostTransactions
    var runs: [PageRun]

    /// The part of the saved directory's name that tells it from others.
    static func place(_ timeline: TimelineID, _ fork: LSN) -> String {
        "\(timeline)-\(hexadecimal(fork.rawValue, digits: 16))"
    }

    var encoded: [UInt8] {
        var lines = [
            Self.heading, "system = \(system)", "timeline = \(timeline)", "end = \(end)",
            "fork = \(fork.timeline) \(fork.lsn)",
            "redo = \(redo.timeline) \(redo.lsn) " + (redoChain.map { hexadecimal(UInt64($0), digits: 8) } ?? "-"),
            "checkpoint = \(checkpointLSN) \(checkpointTime) \(lastTransaction.rawValue)",
            "greatest_redo = \(greatestRedo)",
            "demand = " + (demand.map { "\($0.start) \($0.stop) \($0.timeline)" } ?? "-"),
            "lost = \(lost.count) \(lost.first ?? .zero) \(lost.last ?? .zero)",
        ]
        lines += runs.map { "pages = \($0.first.rawValue) \($0.count)" }
        let bytes = Array((lines.joined(separator: "\n") + "\n").utf8)
        return bytes + Array("crc32c \(hexadecimal(UInt64(hf_crc32c(0, bytes, bytes.count)), digits: 8))\n".utf8)
    }

    /// Reads what `encoded` wrote; the reason when it is anything else.
    static func decode(_ bytes: [UInt8]) -> Result<RewindPlan, RewindPlanFault> {
        var lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false)
        guard lines.count > 11, lines.removeLast().isEmpty else { return .failure("it is cut") }
        let last = lines.removeLast()
        let covered = bytes.count - last.utf8.count - 1
        guard last == "crc32c \(hexadecimal(UInt64(hf_crc32c(0, bytes, covered)), digits: 8))" else {
            return .failure("its checksum does not match")
        }
        guard lines[0] == heading else { return .failure("it is of another version: \(printable(lines[0]))") }
        func words(_ index: Int, _ key: String) -> [Substring] {
            lines[index].hasPrefix(key + " = ") ? lines[index].dropFirst(key.count + 3).split(separator: " ") : []
        }
        func position(_ words: [Substring]) -> ControlData.Position? {
            guard words.count >= 2, let timeline = TimelineID(name: words[0]), let lsn = LSN(words[1]) else {
                return nil
            }
            return .init(timeline: timeline, lsn: lsn)
        }
        let (redo, mark, lost, demand) = (
            words(5, "redo"), words(6, "checkpoint"), words(9, "lost"), words(8, "demand")
        )
        guard let system = words(1, "system").first.flatMap({ SystemIdentifier(String($0)) }),
            let timeline = words(2, "timeline").first.flatMap({ TimelineID(name: $0) }),
            let end = words(3, "end").first.flatMap({ LSN($0) }), let fork = position(words(4, "fork")),
            let redoPosition = position(redo), redo.count == 3, mark.count == 3, let checkpoint = LSN(mark[0]),
            let time = Int64(mark[1]), let transaction = UInt64(mark[2]),
            let greatest = words(7, "greatest_redo").first.flatMap({ LSN($0) }), lost.count == 3,
            let count = Int(lost[0]), let first = LSN(lost[1]), let final = LSN(lost[2])
        else { return .failure("a line makes no sense") }
        var plan = RewindPlan(
            system: system, timeline: timeline, end: end, fork: fork, redo: redoPosition,
            redoChain: parseHexadecimal(redo[2], atMost: 8).map { UInt32($0) }, checkpointLSN: checkpoint,
            checkpointTime: time, lastTransaction: TransactionID(transaction), greatestRedo: greatest, demand: nil,
            lost: LostTransactions(), runs: [])
        if demand.count == 3, let start = LSN(demand[0]), let stop = LSN(demand[1]),
            let timeline = TimelineID(name: demand[2])
        {
            plan.demand = .init(timeline: timeline, start: start, stop: stop)
        }
        plan.lost.count = count
        if count > 0 { (plan.lost.first, plan.lost.last) = (first, final) }
        for index in 10..<lines.count {
            let run = words(index, "pages")
            guard run.count == 2, let first = UInt32(run[0]), let count = Int(run[1]),
                (1...PageRun.mostPages).contains(count)
            else { return .failure("a line makes no sense") }
            plan.runs.append(PageRun(first: PageNumber(first), count: count))
        }
        return .success(plan)
    }
}

/// Why bytes are no plan.
struct RewindPlanFault: Error, ExpressibleByStringInterpolation {
    let why: String
    init(stringLiteral why: String) { self.why = why }
}
