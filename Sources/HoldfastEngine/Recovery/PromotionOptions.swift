import HoldfastCore
import HoldfastWAL

/// What an operator may ask of a promotion besides.
public struct PromotionOptions: Sendable, Equatable {
    /// When the repository is away the timeline is opened all the same, and claimed when it is back. Another node may claim
    /// the same number meanwhile: then this one has to yield.
    public var withoutRepository = false
    /// Claims of others on whose timelines nothing was written are passed over.
    public var isForced = false

    public init(withoutRepository: Bool = false, isForced: Bool = false) {
        self.withoutRepository = withoutRepository
        self.isForced = isForced
    }
}

/// Why a node is not promoted.
package enum PromotionError: DiagnosableError, Equatable {
    /// The newest timeline begins where this node's log ends: somebody claimed it, and nothing of it has come.
    case claimed(TimelineID, reason: String)
    /// This node follows a timeline that was opened without the repository, and another node has claimed that number there.
    case taken(TimelineID, reason: String)
    case onlyFollowers

    package var diagnosis: Diagnosis {
        switch self {
        case .claimed(let timeline, let reason):
            Diagnosis(
                "timeline \(timeline.rawValue) has been claimed by another node", at: reason,
                why: "it begins where this node's log ends, and this node has nothing of it",
                next: "if that node is there, promote it again, or follow it; if it is gone for good and never led, "
                    + "holdfast promote --force passes its claim over",
                status: .tryAgain)
        case .taken(let timeline, let reason):
            Diagnosis(
                "timeline \(timeline.rawValue) is another node's", at: reason,
                why: "this node's own of that number was opened without the repository, and never claimed there",
                next: "follow that node: restore this one anew with --follow; if that node is gone for good and never "
                    + "led, holdfast promote --force passes its claim over",
                status: .dataError)
        case .onlyFollowers:
            Diagnosis(
                "this promotion is a follower's", why: "this node waits at a recovery target",
                next:
                    "promote it without --without-repository and --force; restore with --take-over to pass over a leader",
                status: .usage)
        }
    }
}
