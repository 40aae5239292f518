import HoldfastCore
import HoldfastEngine
import HoldfastWAL

/// The repository of a simulated cluster, in memory: the segments that its leaders archived, and the timelines that were
/// claimed. Calls fail while it is away.
final class SharedArchive: FollowerSource, @unchecked Sendable {
    // Sendable: a seed runs on one thread.
    struct Away: Error {}
    /// A claim that another node has, or had before.
    struct Refused: Error { let timeline: TimelineID }

    private var segments: [SegmentName: [UInt8]] = [:]
    private var histories: [TimelineID: [UInt8]] = [:]
    var isAway = false
    /// What another node does between a candidate's choice of a number and its claim; once.
    var beforeClaim: (() -> Void)?
    /// Told of each claim that succeeds for the first time.
    var onClaim: ((TimelineHistory) -> Void)?

    /// The same content; what happens to the copy is told to nobody.
    func copy() -> SharedArchive {
        let copy = SharedArchive()
        copy.segments = segments
        copy.histories = histories
        return copy
    }

    private func answer() throws { if isAway { throw Away() } }

    // MARK: Segments

    func push(_ name: SegmentName, _ bytes: [UInt8]) throws {
        try answer()
        if let known = segments[name], known != bytes {
            let differ = known.indices.filter { known[$0] != bytes[$0] }
            let at = differ.first ?? 0
            throw Violation(
                "segment \(name) was archived, and is pushed again with other content: \(differ.count) bytes from \(at) on, "
                    + "\(known[at..<min(at + 32, known.count)]) then and \(bytes[at..<min(at + 32, bytes.count)]) now")
        }
        segments[name] = bytes
    }

    func segment(_ name: SegmentName, reusing spent: SegmentBuffer?) throws -> SegmentBuffer? {
        try answer()
        return segments[name].map { SegmentBuffer($0) }
    }

    func holdsLater(than name: SegmentName) throws -> Bool {
        try answer()
        return segments.keys.contains { $0.timeline >= name.timeline && $0.segment > name.segment }
    }

    /// Where the log along `history` ends that is here without a gap from the segment of `start` on.
    func end(along history: TimelineHistory, from start: LSN) -> LSN {
        var number = SegmentNumber(containing: start)
        while segments[SegmentName(timeline: history.timeline(ofFile: number), segment: number)] != nil {
            number = number.next
        }
        return number.start
    }

    /// Reads records along `history` from the segment of `start` on.
    func makeReader(
        _ history: TimelineHistory, _ system: SystemIdentifier, from start: LSN
    ) -> LogReader<MemorySegmentSource> {
        LogReader(
            source: MemorySegmentSource(segments), system: system, history: history,
            from: SegmentNumber(containing: start).start, chain: nil)
    }

    // MARK: Timelines

    var newestHistory: [UInt8]? { histories.keys.max().flatMap { histories[$0] } }

    func history(_ timeline: TimelineID) throws -> [UInt8]? {
        try answer()
        return histories[timeline]
    }

    func histories(above timeline: TimelineID) throws -> [[UInt8]] {
        try answer()
        return histories.keys.sorted().reversed().filter { $0 > timeline }.compactMap { histories[$0] }
    }

    func timelineToClaim(own: [TimelineID], isForced: Bool) throws -> TimelineID {
        try answer()
        if !isForced, let foreign = histories.keys.sorted().last(where: { !own.contains($0) }) {
            throw Refused(timeline: foreign)
        }
        let highest = [own.max(), histories.keys.max(), segments.keys.map(\.timeline).max()].compactMap { $0 }.max()
        return TimelineID((highest ?? .first).rawValue + 1)
    }

    func claim(_ timeline: TimelineID, history: [UInt8]) throws {
        let first = beforeClaim
        beforeClaim = nil
        first?()
        try answer()
        if let known = histories[timeline] {
            guard known == history else { throw Refused(timeline: timeline) }
            return
        }
        histories[timeline] = history
        onClaim?(try TimelineHistory(decoding: history))
    }

    func isRefusal(_ error: any Error) -> Bool { !(error is Away) }

    func requireUnused(_ timeline: TimelineID) throws {
        try answer()
        if segments.keys.contains(where: { $0.timeline == timeline }) { throw Refused(timeline: timeline) }
    }

    func willReplay(_ timelines: [(timeline: TimelineID, from: LSN)]) {}
    func replayEnded() {}
}
