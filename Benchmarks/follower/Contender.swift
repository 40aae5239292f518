import HoldfastTestSupport

/// One side: a leader that holds the content and stays up, and whatever followers a measurement makes and drops.
protocol Contender: AnyObject {
    var name: String { get }
    /// What to know of how it is run, for people.
    var settings: String { get }
    var isPeer: Bool { get }

    /// Clients that update random records of `load`, each in a durable transaction of its own, until they are killed.
    func startLoad() throws -> RunningProcess

    /// Makes a follower of the leader and starts it, until it has answered a read; then drops it.
    func provision() throws -> Provisioned

    /// Stops a follower, has the leader write so much log, and starts the follower, until it has applied it all.
    func catchUp(megabytes: Int, from source: LogSource) throws -> CaughtUp

    /// Load for so long beside so many followers, which are kept for the next such measurement.
    func measureLoad(followers: Int, seconds: Int) throws -> UnderLoad
    func pauseFollowers() throws
    func dropFollowers() throws

    /// The leader is killed under load. Seconds from the command that promotes its follower to the first write that this
    /// has accepted; it is the leader from then on.
    func promote() throws -> Double

    /// A leader writes so much log that its follower does not get, and is killed; the follower is promoted. Then the old
    /// leader is rewound, and started until it answers a read. The follower is the leader from then on.
    func rewind(megabytes: Int) throws -> Rewound
}

/// Where a follower finds what it missed.
enum LogSource: String, CaseIterable { case archive, stream }

struct Provisioned {
    /// From the command to the first answer.
    var seconds: Double
    /// What was read from the leader for it, when it had caught up with it.
    var bytesFromLeader: Int
}

struct CaughtUp {
    var bytes: Int
    /// Records that were updated in them.
    var changes: Int
    /// From the start of the process.
    var seconds: Double
    /// Bytes of them that the leader sent; nil: not known.
    var streamed: Int?
}

struct UnderLoad {
    /// Writes that the leader acknowledged in a second.
    var rate: Double
    /// Processor time that the leader used for one of them, in microseconds.
    var leaderMicroseconds: Double
    /// From the leader's acknowledgement of a write to when a read of the follower sees it; none without followers.
    var lagMilliseconds: [Double]
}

struct Rewound {
    /// Of the command.
    var seconds: Double
    /// From the command until it answers a read as a follower.
    var secondsToServing: Double
}
