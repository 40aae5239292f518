import Foundation
import HoldfastCore
import HoldfastEngine
import HoldfastFailover
import HoldfastReplica
import HoldfastWire
import Logging
import ServiceLifecycle
import Synchronization

/// Keeps this node's lease in etcd, and does what `FailoverDecision` says: renews the leader's key or fences the engine,
/// points the follower's stream to whoever leads, and promotes it when it is its turn.
///
/// The engine is fenced before this service runs, and again by itself once its deadline passes: whatever hangs here, nothing
/// is acknowledged longer than the lease holds. To be stopped last of all services, since clients are answered until then.
struct FailoverService: NamedService {
    let settings: FailoverSettings
    let access: EtcdAccess
    let cluster: String
    let engine: Engine
    let composition: NodeComposition
    /// What the follower's stream tries.
    let leaders: LeaderList
    let node: String
    let address: WireAddress
    /// How a node is reached whose address is known.
    let server: @Sendable (WireAddress) throws -> WireServer
    let log: Logger

    /// A promotion that failed is tried again after this.
    private static let retryMilliseconds = 5000

    func run() async throws {
        let etcd = EtcdClient(settings, access)
        let key = LeaderKey(etcd, FailoverKeys(cluster: cluster), node: node, ttlMilliseconds: settings.ttl)
        let result: Result<Void, any Error>
        do {
            try await watch(key)
            result = .success(())
        } catch {
            result = .failure(error)
        }
        // First nothing is acknowledged any more, then the next one may lead.
        engine.fence()
        await key.release()
        await etcd.close()
        try result.get()
    }

    /// What is remembered from one look to the next.
    private struct Memory {
        var hasJoined = false
        /// Since when the key is seen gone.
        var vacantSince: Int64?
        /// The term to whose leader nothing is listened to any more.
        var leftTerm: Int64?
        var isLeading = false
        var isAway = false
        var waitsFor: String?
        /// The last that was begun.
        var promotion: Attempt?
        var notBefore: Int64 = 0
    }

    /// A promotion, for whoever may begin another when it is over.
    private final class Attempt: Sendable {
        private let ended = Atomic(false)
        var isOver: Bool { ended.load(ordering: .acquiring) }
        func end() { ended.store(true, ordering: .releasing) }
    }

    private func watch(_ key: LeaderKey) async throws {
        var memory = Memory()
        let usual = Swift.max(100, Swift.min(500, settings.ttl / 8))
        var pause = 1
        while await Pause.milliseconds(pause) {
            pause = usual
            do throws(EtcdError) {
                let deadline = try await key.renew()
                if !memory.hasJoined {
                    try await key.join()
                    memory.hasJoined = true
                }
                let view = try await key.look()
                composition.electable = view.members.subtracting([node])
                let now = BootClock.microseconds()
                memory.vacantSince = view.holder == nil ? memory.vacantSince ?? now : nil
                if memory.isAway { log.notice("etcd answers again") }
                memory.isAway = false
                let facts = NodeFacts(
                    name: node, isFollower: engine.isFollower, timeline: engine.status.timeline,
                    lease: await key.lease,
                    vacantMilliseconds: Int((now - (memory.vacantSince ?? now)) / 1000))
                let decision = FailoverDecision(view, facts, maximumLag: settings.maximumLag)
                if case .stop(let why) = decision {
                    engine.fence()
                    throw EtcdError.refused(code: -1, why)
                }
                if try await carryOut(decision, view, key, deadline, &memory) { pause = 1 }
                if view.holder == nil { pause = Swift.min(pause, 100) }
                try await key.publish(record(memory, view))
            } catch {
                if case .refused(code: -1, let why) = error {
                    log.critical("stopping: another node leads", metadata: ["why": "\(printable(why))"])
                    throw LeaderKeyLost(why: why)
                }
                memory.vacantSince = nil
                if !memory.isAway {
                    log.warning("failover: etcd does not answer", metadata: ["error": "\(LogOutput.text(error))"])
                }
                memory.isAway = true
            }
            if memory.isLeading, !engine.mayAcknowledge {
                memory.isLeading = false
                log.error("the leader's key could not be renewed in time: writes are refused")
            }
        }
    }

    /// - Returns: whether to look again at once.
    private func carryOut(
        _ decision: FailoverDecision, _ view: ClusterView, _ key: LeaderKey, _ deadline: Int64, _ memory: inout Memory
    ) async throws(EtcdError) -> Bool {
        note(decision, &memory)
        switch decision {
        case .lead:
            guard let holder = view.holder else { return false }
            guard !engine.isFollower else { return await promote(key, &memory) }
            memory.promotion = nil
            let word = word(term: view.word?.term ?? 1).following(view.word)
            // Before the first write: as long as the last word is the old leader's, that one may take the key back.
            let isSaid = view.word?.node == node && view.word?.timeline == word.timeline
            if !isSaid, try await !key.say(word, holding: holder) { return false }
            // The look came after the renewal: the key stood on this lease when the lease's time had begun anew.
            engine.setWriteDeadline(deadline)
            if !memory.isLeading { log.notice("leading", metadata: ["node": "\(node)"]) }
            memory.isLeading = true
            if isSaid { _ = try await key.say(word, holding: holder) }
        case .takeBack:
            return try await key.campaign(view, word: word(term: (view.word?.term ?? 0) + 1).following(view.word))
        case .takeOver:
            guard BootClock.microseconds() >= memory.notBefore, let word = view.word else { return false }
            return try await key.campaign(view, word: word.takingOver(node))
        case .follow(let name):
            memory.leftTerm = nil
            let address = view.nodes.first { $0.node == name }.flatMap { try? WireAddress($0.address) }
            if let address { point(to: address) }
        case .report(let term):
            leaders.set([])
            memory.leftTerm = term
            return true
        case .wait, .stop: break
        }
        return false
    }

    private func point(to address: WireAddress) {
        do {
            leaders.set([try server(address)])
        } catch {
            log.error(
                "the leader cannot be followed",
                metadata: ["leader": "\(address)", "error": "\(LogOutput.text(error))"])
        }
    }

    /// Says once what the node waits for.
    private func note(_ decision: FailoverDecision, _ memory: inout Memory) {
        guard case .wait(let why) = decision else { return memory.waitsFor = nil }
        if memory.waitsFor != why { log.notice("failover waits", metadata: ["why": "\(printable(why))"]) }
        memory.waitsFor = why
    }

    /// The key is this node's: opens the new timeline, beside the renewals.
    private func promote(_ key: LeaderKey, _ memory: inout Memory) async -> Bool {
        guard memory.promotion?.isOver ?? true else { return false }
        leaders.set([])
        log.notice("taking over from the leader, which is gone")
        let (composition, log) = (composition, log)
        memory.notBefore = BootClock.microseconds() + Int64(Self.retryMilliseconds) * 1000
        let attempt = Attempt()
        memory.promotion = attempt
        Task {
            do {
                _ = try await BlockingWork.run("promote") { try composition.open() }
            } catch {
                log.error("the promotion failed", metadata: ["error": "\(LogOutput.text(error))"])
                // Another may be able to. This node tries again when it has got the key again.
                await key.release()
            }
            attempt.end()
        }
        return true
    }

    private func word(term: Int64) -> LeaderWord {
        let status = engine.status
        return LeaderWord(
            term: term, node: node, timeline: status.timeline, lsn: status.durableLSN,
            minimumFollowers: composition.certainFollowers)
    }

    private func record(_ memory: Memory, _ view: ClusterView) -> NodeRecord {
        let status = engine.status
        let positions = status.follower?.positions
        // Just started, it says less than it has confirmed: then nobody must be chosen by what it says.
        let isKnown = status.follower?.hasReadItsLog ?? true
        return NodeRecord(
            node: node, role: .init(rawValue: status.role.rawValue) ?? .recovering, address: address.description,
            timeline: status.timeline,
            flushed: positions.map { Swift.max($0.flushed, $0.applied) } ?? status.durableLSN,
            applied: positions?.applied ?? status.publishedLSN, time: Timestamp.now,
            vacantTerm: view.holder == nil && isKnown ? memory.leftTerm : nil)
    }
}

/// Another node leads: this one must not go on.
struct LeaderKeyLost: DiagnosableError {
    let why: String
    var diagnosis: Diagnosis {
        Diagnosis(
            "this leader must not accept writes any more", why: printable(why, limit: 300),
            next: "rewind or restore this node so that it follows the new leader: holdfast nodes shows which that is",
            status: .dataError)
    }
}

extension EtcdClient {
    /// A call must end well before the lease does, whatever becomes of each endpoint.
    convenience init(_ settings: FailoverSettings, _ access: EtcdAccess) {
        self.init(
            endpoints: settings.etcd, access: access,
            timeoutMilliseconds: Swift.max(100, Swift.min(2000, settings.ttl / (3 * settings.etcd.count))))
    }
}

extension FailoverSettings {
    /// What this node is called, in etcd and by the leader that it follows: of another name its word would not count.
    /// - Parameter host: this host's name, where the configuration gives none.
    func ownNode(host: String = ProcessInfo.processInfo.hostName) throws(ConfigurationError) -> String {
        let name = node ?? host
        guard ObjectName.isValid(name) else {
            let refusal = ObjectName.refusal(name, of: "node")
            throw .badValue(
                "failover.node", .builtIn, why: "\(refusal.what): \(refusal.why ?? "")",
                next: "give failover: {node: NAME}")
        }
        return name
    }

    /// Reads the files that it names. Throws `EtcdError.badCredentials` or `SecretFileError`.
    func access() throws -> EtcdAccess {
        var login: EtcdAccess.Login?
        if let user, let passwordFile { login = .init(user: user, password: try SecretFile.password(passwordFile)) }
        return try EtcdAccess(authorities: authorities, certificate: certificate, key: key, login: login)
    }
}
