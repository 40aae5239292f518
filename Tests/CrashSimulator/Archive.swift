import HoldfastCore
import HoldfastEngine
import HoldfastWAL
import Synchronization

/// A repository in memory: the log's segments, and who claimed which timeline.
final class Archive: RecoverySource, Sendable {
    private struct State {
        var segments: [SegmentName: [UInt8]] = [:]
        var histories: [TimelineID: [UInt8]] = [:]
    }
    private let state: Mutex<State>

    init() { state = Mutex(State()) }
    private init(_ state: consuming State) { self.state = Mutex(state) }

    /// The same log, below `end` only, and nobody's claims.
    func copy(below end: LSN = .max) -> Archive {
        Archive(State(segments: state.withLock { $0.segments.filter { $0.key.segment.end <= end } }))
    }

    /// Where the log ends that is here from the first segment on without a gap.
    var end: LSN {
        state.withLock { state in
            let numbers = state.segments.keys.map(\.segment).sorted()
            guard var last = numbers.first else { return .zero }
            for number in numbers.dropFirst() where number == last.next { last = number }
            return last.end
        }
    }

    /// The segments that are missing between the first and the last.
    var gaps: [SegmentNumber] {
        state.withLock { state in
            let numbers = state.segments.keys.map(\.segment).sorted()
            return zip(numbers, numbers.dropFirst()).filter { $0.next != $1 }.map { $0.0.next }
        }
    }

    func push(_ name: SegmentName, _ bytes: [UInt8]) throws(Violation) {
        let other = state.withLock { state in
            defer { if state.segments[name] == nil { state.segments[name] = bytes } }
            return state.segments[name].map { $0 != bytes } ?? false
        }
        if other { throw Violation("segment \(name) was archived, and is pushed again with other content") }
    }

    func segment(_ name: SegmentName, reusing spent: SegmentBuffer?) -> SegmentBuffer? {
        state.withLock { $0.segments[name] }.map { SegmentBuffer($0) }
    }

    func holdsLater(than name: SegmentName) -> Bool {
        state.withLock { $0.segments.keys.contains { $0.segment > name.segment } }
    }

    func history(_ timeline: TimelineID) -> [UInt8]? { state.withLock { $0.histories[timeline] } }
    func willReplay(_ timelines: [(timeline: TimelineID, from: LSN)]) {}

    func timelineToClaim(own: [TimelineID], isForced: Bool) -> TimelineID {
        let claimed = state.withLock { $0.histories.keys.max() } ?? .first
        return TimelineID(max(own.max() ?? .first, claimed).rawValue + 1)
    }

    func claim(_ timeline: TimelineID, history: [UInt8]) throws {
        let isAnothers = state.withLock { state in
            defer { if state.histories[timeline] == nil { state.histories[timeline] = history } }
            return state.histories[timeline].map { $0 != history } ?? false
        }
        if isAnothers { throw Violation("timeline \(timeline) was claimed twice by one node") }
    }

    func replayEnded() {}
}

/// A base backup: pages that were copied one after another while they changed.
struct Backup {
    var start: LSN
    var stop: LSN
    var label: [UInt8]
    var control: ControlData
    var pages: [UInt8]
}
