import HoldfastCore
import HoldfastEngine
import HoldfastWAL

/// A connection from a leader to a follower, and what is under way on it. Either direction may be cut, and nobody is told.
final class SimulatedStream {
    enum Message {
        case log(LSN, [UInt8], durable: LSN, archived: LSN)
        case end(LSN, history: [UInt8])
    }

    let leader: ClusterNode
    let follower: ClusterNode
    /// Of the leader's timeline when it began.
    let token: TimelineToken
    let timeline: TimelineID
    let feed: LogFeed
    /// The next byte to be sent.
    var position: LSN
    var isEnded = false
    var toFollower: [Message] = []
    var toLeader: [FollowerPositions] = []
    /// What the leader was told last, told again by a network that repeats.
    var old: FollowerPositions?
    var isForwardCut = false
    var isBackwardCut = false

    init(leader: ClusterNode, follower: ClusterNode, token: TimelineToken, request: StreamRequest, feed: LogFeed) {
        self.leader = leader
        self.follower = follower
        self.token = token
        timeline = request.timeline
        self.feed = feed
        position = request.position
    }
}
