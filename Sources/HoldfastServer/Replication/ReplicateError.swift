import HoldfastCore
import HoldfastEngine
import HoldfastWire

/// Why a follower gets no stream. The codes tell it what to do next.
enum ReplicateError: Error, Equatable {
    case malformed(String)
    /// The asker's system identifier, and ours.
    case foreign(SystemIdentifier, own: SystemIdentifier)
    case diverged(at: LSN, TimelineID, why: String)
    case ahead(LSN, end: LSN)
    /// The timeline begins behind the position: who asks for bytes before it asks for its parent.
    case beforeTimeline(LSN, TimelineID, begins: LSN)
    case gone(LSN, TimelineID)
    case slotInvalid(String, why: String)
    case slotInUse(String)
    /// The asker may want the leader.
    case isFollower

    init(_ refusal: FeedRefusal) {
        self =
            switch refusal {
            case .foreign(let theirs, let own): .foreign(theirs, own: own)
            case .diverged(let lsn, let timeline, let why): .diverged(at: lsn, timeline, why: why)
            case .ahead(let lsn, let end): .ahead(lsn, end: end)
            case .beforeTimeline(let lsn, let timeline, let begins): .beforeTimeline(lsn, timeline, begins: begins)
            case .gone(let lsn, let timeline): .gone(lsn, timeline)
            case .slotInvalid(let slot, let why): .slotInvalid(slot, why: why)
            }
    }

    /// The error reply: code, then a diagnosis on one line.
    var reply: String {
        switch self {
        case .malformed(let why): "ERR REPLICATE slot|- timeline lsn [option value]…: \(why)"
        case .foreign(let theirs, let own):
            text(
                ReplicationRefusal.foreign, "this is another cluster", at: "system identifier \(own)",
                why: "the follower belongs to \(theirs)", next: "give the follower the address of its own leader")
        case .diverged(let lsn, let timeline, let why):
            text(
                ReplicationRefusal.diverged, "the follower's log is not a part of this one",
                at: "timeline \(timeline.rawValue) at \(lsn)", why: why, next: "rewind the follower, or restore it anew"
            )
        case .ahead(let lsn, let end):
            text(
                ReplicationRefusal.ahead, "the follower's log is longer than this one", at: "\(lsn)",
                why: "this log is durable to \(end)", next: "check which of the two is the leader")
        case .beforeTimeline(let lsn, let timeline, let begins):
            text(
                "DATAERR", "the timeline begins behind the position", at: "timeline \(timeline.rawValue) at \(lsn)",
                why: "it begins at \(begins)", next: "ask for the timeline that owns the position")
        case .gone(let lsn, let timeline):
            text(
                ReplicationRefusal.gone, "the log is not here any more", at: "timeline \(timeline.rawValue) at \(lsn)",
                why: "its segment was recycled or removed",
                next: "take it from the archive, and use a slot that keeps it")
        case .slotInvalid(let slot, let why):
            text(
                ReplicationRefusal.slotInvalid, "the slot keeps nothing any more", at: printable(slot), why: why,
                next: "take the log from the archive, then ask again")
        case .isFollower:
            "UNAVAILABLE "
                + Diagnosis(
                    "this node is a follower itself", why: "the asker looks for a leader",
                    next: "follow its leader; or name this node alone under follow: to follow a follower",
                    status: .unavailable
                ).description.replacing("\n", with: "; ")
        case .slotInUse(let slot):
            text(
                "BUSY", "the slot is in use", at: printable(slot), why: "another connection replicates with it",
                next: "use another slot, or wait until that connection has ended")
        }
    }

    private func text(_ code: String, _ what: String, at place: String, why: String, next: String) -> String {
        let diagnosis = Diagnosis(what, at: place, why: why, next: next, status: .dataError)
        return code + " " + diagnosis.description.replacing("\n", with: "; ")
    }
}
