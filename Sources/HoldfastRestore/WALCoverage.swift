import HoldfastCore
import HoldfastRepository
import HoldfastWAL

/// The archive's segments along one history, from a place on, and where the stretches without a gap end.
struct WALCoverage {
    let history: TimelineHistory
    let archive: WALArchive
    let start: LSN
    /// All that are there, in order.
    let segments: [SegmentName]
    private let inventories: [TimelineID: TimelineWAL]

    init(_ repository: Repository, _ history: TimelineHistory, from start: LSN) throws {
        self.history = history
        self.start = start
        archive = WALArchive(repository, tokenOfHistory: TimelineHistory.ownToken)
        var inventories: [TimelineID: TimelineWAL] = [:]
        for entry in history.entries { inventories[entry.timeline] = try archive.inventory(of: entry.timeline) }
        self.inventories = inventories
        var segments: [SegmentName] = []
        var number = SegmentNumber(containing: start)
        let last = inventories.values.compactMap { $0.ranges.last?.upperBound }.max()
        while let last, number <= last {
            if let name = Self.present(number, history, inventories) { segments.append(name) }
            number = number.next
        }
        self.segments = segments
    }

    /// The segments from the one that holds `lsn` on, up to the first that is missing.
    func contiguous(from lsn: LSN) -> [SegmentName] {
        var names: [SegmentName] = []
        var number = SegmentNumber(containing: lsn)
        while let name = Self.present(number, history, inventories) {
            names.append(name)
            number = number.next
        }
        return names
    }

    /// The end of the last record that can be reached from `lsn` without a gap; `lsn` if there is none. `damage`: the
    /// archive goes on behind it, with a segment whose summary cannot be read.
    func end(from lsn: LSN) throws -> (lsn: LSN, damage: RepositoryError?) {
        var end = lsn
        let damage = try summaries(of: contiguous(from: lsn)) { summary in
            // A switch or a witness is a record too: most last segments say where they end.
            guard let records = summary.records else { return true }
            end = max(lsn, min(records.end, history.end(of: summary.segment.timeline) ?? .max))
            return false
        }
        return (end, damage)
    }

    /// The segment with this number as this history has it: a timeline's first segment holds its parent's bytes below
    /// the switch, so the newest timeline that reaches into the segment is asked first.
    private static func present(
        _ number: SegmentNumber, _ history: TimelineHistory, _ inventories: [TimelineID: TimelineWAL]
    ) -> SegmentName? {
        for entry in history.entries.reversed()
        where entry.switchLSN < number.end && (history.end(of: entry.timeline) ?? .max) > number.start {
            if inventories[entry.timeline]?.contains(number) == true {
                return SegmentName(timeline: entry.timeline, segment: number)
            }
        }
        return nil
    }

    /// Throws for the first segment that is missing of those that hold the bytes from `start` to below `stop`.
    func requireContiguous(from start: LSN, to stop: LSN, for need: String) throws {
        var number = SegmentNumber(containing: start)
        let last = SegmentNumber(containing: LSN(stop.rawValue - 1))
        while number <= last {
            guard Self.present(number, history, inventories) != nil else {
                throw RestoreError.missingSegment(
                    SegmentName(timeline: history.timeline(at: max(number.start, start)), segment: number),
                    neededFor: need)
            }
            number = number.next
        }
    }

    /// Throws for the first segment from the one that holds `start` on whose summary is damaged or gone, as far as they
    /// are needed. `isNeeded` is asked about each with the summary of the one before.
    func requireReadable(
        from start: LSN, as isNeeded: (_ segment: SegmentName, _ before: SegmentSummary?) -> Bool
    ) throws {
        var before: SegmentSummary?
        for name in contiguous(from: start) {
            guard isNeeded(name, before) else { return }
            guard let summary = try archive.summary(name) else { throw RepositoryError.segmentMissing(name) }
            before = summary
        }
    }

    /// The first segment missing behind `start` although later ones are there; `nil` when the archive simply ends.
    func gap(from start: LSN) -> SegmentName? {
        let from = SegmentNumber(containing: start)
        var number = from
        while Self.present(number, history, inventories) != nil { number = number.next }
        // Only what this history owns: an abandoned branch may go on behind the place where it was left.
        let isLater = history.entries.contains { entry in
            let end = history.end(of: entry.timeline) ?? .max
            return inventories[entry.timeline]?.ranges.contains {
                $0.upperBound > number && max($0.lowerBound, number.next).start < end
            } == true
        }
        return isLater ? SegmentName(timeline: history.timeline(at: number.start), segment: number) : nil
    }

    /// The summaries of all segments that are there, or of `names`, newest first, as long as `body` says `true`.
    ///
    /// One that is damaged or gone is passed over: who needs it must say so, and nobody else be refused for it.
    /// - Returns: what was wrong with the first that was passed over.
    @discardableResult
    func summaries(of names: [SegmentName]? = nil, _ body: (SegmentSummary) throws -> Bool) throws -> RepositoryError? {
        var damage: RepositoryError?
        for name in (names ?? segments).reversed() {
            let summary: SegmentSummary
            do {
                guard let found = try archive.summary(name) else { throw RepositoryError.segmentMissing(name) }
                summary = found
            } catch let error as RepositoryError {
                damage = damage ?? error
                continue
            }
            guard try body(summary) else { break }
        }
        return damage
    }
}
