import HoldfastTestSupport

/// What is done to a leader, so that another must take over.
public enum LeaderFault: String, CaseIterable, Sendable {
    /// Its process is killed; its host answers, so that connections are refused.
    case kill
    /// The process and its agent are killed, and the host is silent.
    case loseHost = "lose-host"
    /// It reaches neither etcd nor other nodes nor the repository; clients reach it.
    case partition
    /// Nobody reaches it and it reaches nobody.
    case isolate
    /// What it sends reaches neither etcd nor other nodes; it hears them, and clients reach it.
    case mute
    /// It hears neither etcd nor other nodes; what it sends reaches them, and clients reach it.
    case deafen
    /// As `partition`, and a moment later its process is killed.
    case partitionAndKill = "partition-kill"
    /// It stands still (SIGSTOP) until another leads.
    case pause

    /// Whether the repository is out of its reach too.
    var isOfNetwork: Bool { self != .kill && self != .pause }
}

/// One round's choices, all from its seed.
struct RoundPlan: CustomStringConvertible {
    /// What links are like in this round.
    enum Weather: CustomStringConvertible {
        case fair
        /// Of a hundred packets between nodes and etcd so many are lost.
        case loss(Int)
        /// The proxies delay each piece by so many milliseconds, from none.
        case delay(Int)
        /// A follower does not hear the leader, but etcd; it is the first or second by name.
        case deafFollower(Int)
        /// What the leader sends passes at this rate at most.
        case slowLeader(kilobytesPerSecond: Int)

        var description: String {
            switch self {
            case .fair: "fair links"
            case .loss(let percent): "\(percent) % loss"
            case .delay(let milliseconds): "delays to \(milliseconds) ms"
            case .deafFollower(let index): "follower \(index + 1) cut off from the leader one way"
            case .slowLeader(let rate): "leader at \(rate) kB/s"
            }
        }
    }

    var fault: LeaderFault
    var weather: Weather
    var beforeMilliseconds: UInt32
    var betweenMilliseconds: UInt32
    var afterMilliseconds: UInt32

    init(seed: UInt64, _ faults: [LeaderFault]) {
        var random = SeededGenerator(seed: seed)
        fault = faults[Int(random.next() % UInt64(faults.count))]
        weather =
            switch random.next() % 8 {
            case 0, 1, 2: .fair
            case 3: .loss(Int.random(in: 1...12, using: &random))
            case 4: .delay(Int.random(in: 2...40, using: &random))
            case 5, 6: .deafFollower(Int.random(in: 0...1, using: &random))
            default: .slowLeader(kilobytesPerSecond: Int.random(in: 200...2000, using: &random))
            }
        beforeMilliseconds = UInt32.random(in: 300...2000, using: &random)
        betweenMilliseconds = UInt32.random(in: 0...1500, using: &random)
        afterMilliseconds = UInt32.random(in: 200...1500, using: &random)
    }

    var description: String {
        let between = fault == .partitionAndKill ? " \(betweenMilliseconds) ms apart" : ""
        return "\(fault.rawValue)\(between) after \(beforeMilliseconds) ms, \(weather)"
    }
}
