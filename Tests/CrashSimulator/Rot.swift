import HoldfastCore
import HoldfastEngine
import HoldfastTestSupport
import HoldfastWAL

/// Bit rot on a disk that is about to be recovered. What may come of it: the right state, or a refusal that names the
/// damage; never another state.
enum Rot: CaseIterable {
    /// One of two sound control slots: the other one is enough.
    case controlSlot
    /// A page that may or may not be replayed.
    case coldPage
    /// A page's bytes in another page's place: a write that missed its track.
    case misplacedPage
    /// The log where it is known to be durable.
    case log
    /// The log behind that: the last batch may be lost, and no part of it kept.
    case tail

    /// Where an engine knew its log to be, when the disk was copied.
    struct Positions {
        var redo: LSN
        var witnessed: LSN
        var appended: LSN
        var timeline: TimelineID

        init(_ engine: Engine) {
            let control = engine.controlData
            redo = control.redo.lsn
            witnessed = engine.witnessedLSN
            appended = engine.appendedLSN
            timeline = control.timeline
        }
    }

    /// Damages `disk`.
    /// - Returns: what may be found afterwards; `nil` when there was nothing to damage.
    func apply(
        to disk: SimulatedDisk, _ history: History, _ positions: Positions, _ random: inout SeededGenerator
    ) -> History? {
        let bit = UInt8(1) << UInt8(random.number(0...7))
        switch self {
        case .controlSlot:
            let slots = (0..<2).map { place in
                disk.peek(ControlData.path, place * ControlData.slotBytes..<(place + 1) * ControlData.slotBytes)
            }
            // With the other one torn nothing would be left.
            guard slots.allSatisfy({ (try? ControlData.decode($0)) != nil }) else { return nil }
            disk.rot(ControlData.path, at: random.number(0...2 * ControlData.slotBytes - 1), bit)
        case .coldPage:
            let pages = disk.peek(PageNumber.filePath(0), 0..<1 << 24).count / Page.bytes
            guard pages > 2 else { return nil }
            disk.rot(
                PageNumber.filePath(0),
                at: random.number(0...pages - 1) * Page.bytes + random.number(0...Page.bytes - 1),
                bit)
        case .misplacedPage:
            let bytes = disk.peek(PageNumber.filePath(0), 0..<1 << 24), pages = bytes.count / Page.bytes
            guard pages > 2 else { return nil }
            // Pages that were written at all.
            let used = (0..<pages).filter { bytes[$0 * Page.bytes + 16] != 0 }
            guard used.count > 1 else { return nil }
            let from = used.randomElement(using: &random)! * Page.bytes
            let to = used.randomElement(using: &random)! * Page.bytes
            for at in 0..<Page.bytes where bytes[from + at] != bytes[to + at] {
                disk.rot(PageNumber.filePath(0), at: to + at, bytes[from + at] ^ bytes[to + at])
            }
        case .log:
            return rotLog(disk, positions.redo, positions.witnessed, positions.timeline, bit, &random)
                ? history : nil
        case .tail:
            return rotLog(disk, positions.witnessed, positions.appended, positions.timeline, bit, &random)
                ? history.lost(behind: positions.witnessed) : nil
        }
        return history
    }

    private func rotLog(
        _ disk: SimulatedDisk, _ from: LSN, _ to: LSN, _ timeline: TimelineID, _ bit: UInt8,
        _ random: inout SeededGenerator
    ) -> Bool {
        guard from < to else { return false }
        let lsn = from + random.number(0...(to - from) - 1)
        let number = SegmentNumber(containing: lsn)
        disk.rot(SegmentName(timeline: timeline, segment: number).walPath, at: lsn - number.start, bit)
        return true
    }

    /// Whether a start on such a disk may be refused, or a reader told of damage.
    var mayBeRefused: Bool { self != .controlSlot }
}

extension CrashCheck {
    /// A power loss that finds something rotten as well.
    mutating func crash(_ disk: SimulatedDisk, _ history: History, rottenAt positions: Rot.Positions) throws {
        let copy = disk.restart(seed: random.next())
        let rot = Rot.allCases.randomElement(using: &random)!
        guard let possible = rot.apply(to: copy, history, positions, &random) else { return try run(copy, history) }
        try run(copy, rotten: rot, possible)
    }

    /// Recovers a rotten disk.
    private mutating func run(_ disk: SimulatedDisk, rotten rot: Rot, _ history: History) throws {
        counts.rotten += 1
        counts.recoveries += 1
        do {
            let engine = try Engine(opening: disk, options: settings.options {})
            defer { engine.abandon() }
            _ = try Driver.identify(engine, history)
            let problems = try engine.structureProblems()
            guard problems.isEmpty || rot == .coldPage || rot == .misplacedPage else {
                throw Violation("behind rot (\(rot)) the structure is damaged: \(problems.prefix(3))")
            }
        } catch let violation as Violation {
            throw Violation("behind rot (\(rot)): \(violation)")
        } catch let error as EngineError {
            guard rot.mayBeRefused, rot != .tail || !error.isDamage else {
                throw Violation("behind rot (\(rot)) recovery failed: \(error)")
            }
            counts.refused += 1
        }
    }
}
