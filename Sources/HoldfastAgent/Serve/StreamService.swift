import Foundation
import HoldfastCore
import HoldfastEngine
import HoldfastReplica
import HoldfastWire
import Logging
import ServiceLifecycle
import Synchronization

/// Keeps a follower's stream running until the node is promoted or stops.
struct StreamService: NamedService {
    let engine: Engine
    /// Its `follow:` comes before those that the restore left; its `client:` says how to reach them.
    let configuration: Configuration
    /// Given where failover says who leads: then nothing else does.
    let elected: LeaderList?
    let log: Logger

    func run() async throws {
        guard let follower = engine.logFollower else { return await Pause.untilShutdown() }
        var leaders = configuration.follow
        for text in follower.signal.follow {
            if let address = try? WireAddress(text), !leaders.contains(address) { leaders.append(address) }
        }
        let servers = try leaders.map { try configuration.server(at: $0) }
        // Where one node alone is named it is the one to follow, whatever it follows itself.
        let isOne = configuration.follow.count == 1 || leaders.count == 1
        let list = elected ?? LeaderList(servers, isFixed: true, upstream: isOne ? servers[0] : nil)
        if elected == nil, leaders.isEmpty { log.warning("no leader is known: the archive alone is followed") }
        let (log, engine) = (log, engine)
        let node = elected == nil ? nil : try configuration.failover?.ownNode()
        let stream = LogStream(follower, leaders: list, node: node) { event in
            switch event {
            case .began(let leader, let lsn, let timeline):
                log.info(
                    "streaming",
                    metadata: ["leader": "\(leader)", "lsn": "\(lsn)", "timeline": "\(timeline.rawValue)"])
            case .ended(let leader, let why):
                log.notice("the stream ended", metadata: ["leader": "\(leader)", "why": "\(why ?? "in order")"])
            }
        }
        // Nobody waits for the thread: it may stand in a read of a leader that is silent, and what it brings once the node
        // stops or was promoted is refused.
        let ending = StopFlag()
        Thread.detachNewThread { stream.run { !engine.isFollower || ending.isSet } }
        await Pause.untilShutdown()
        ending.set()
    }
}
