import Foundation
import HoldfastCore
import HoldfastEngine
import HoldfastServer
import HoldfastWire
import Logging
import ServiceLifecycle
import Synchronization

/// Compares a follower's content with its leader's once it has caught up, and until then keeps the gate closed.
///
/// **One LSN.** The follower's replay stands still between two commits while the leader is asked to hold a snapshot that has
/// at least as much (`DIGEST PIN`); the leader names the LSN of what it holds, and the follower takes its own snapshot there
/// on its way (`Engine.snapshot(meeting:)`). Then both read at once, each what it holds: the leader's writers and the
/// follower's replay go on. Each of these steps has a limit of time; what runs into one is repeated, and so is all of it
/// when a node has to forget versions of its snapshot.
///
/// The wish stands in `standby.signal` until it is fulfilled, so that a node which was killed meanwhile, or was found to
/// differ, is compared at its next start again.
struct ContentVerification: NamedService {
    let engine: Engine
    let disk: RealDisk
    let gate: ContentGate
    /// How a server at an address is reached.
    let server: @Sendable (WireAddress) throws -> WireServer
    let log: Logger

    private static let lookMilliseconds = 200
    private static let retryMilliseconds = 2000
    /// With less log to replay the follower has caught up: a leader that writes is always a little ahead.
    private static let nearBytes: UInt64 = 16 << 20
    /// How long the leader may take until its readers see what the follower has.
    private static let pinMilliseconds = 5000

    func run() async throws {
        let isOver = StopFlag()
        try await withGracefulShutdownHandler {
            try await work(isOver)
        } onGracefulShutdown: {
            isOver.set()
        }
        await Pause.untilShutdown()
    }

    private func work(_ isOver: StopFlag) async throws {
        var goal: LSN?
        var lastProblem: String?
        while await Pause.milliseconds(lastProblem == nil ? Self.lookMilliseconds : Self.retryMilliseconds) {
            guard let status = engine.status.follower else { return }
            guard status.phase == .streaming, let leader = status.leader else { continue }
            // It has what the leader had when this was first asked, and not much is missing of what came since.
            let shown = status.positions.applied
            guard let first = goal, shown >= first, status.leaderLSN <= shown + Int(Self.nearBytes) else {
                goal = goal.flatMap { shown >= $0 ? nil : $0 } ?? status.leaderLSN
                continue
            }
            do {
                let own = self
                let found = try await BlockingWork.run("verify") { try own.compare(leader, isOver) }
                try disk.replaceAtomically(StandbySignal.fileName, with: signal(isVerified: true).encoded)
                gate.set(.equal(lsn: found.lsn, records: found.content.records, digest: found.content.digest))
                log.notice(
                    "verified: this follower holds what its leader holds",
                    metadata: [
                        "lsn": "\(found.lsn)", "records": "\(found.content.records)",
                        "sha256": "\(found.content.digest)",
                        "leader": "\(leader)",
                    ])
                return
            } catch let error as ContentDiffers {
                gate.set(.differs(error.diagnosis.description.replacing("\n", with: "; ")))
                log.critical("stopping", metadata: ["error": "\(LogOutput.text(error))"])
                throw error
            } catch {
                if isOver.isSet { return }
                let problem = LogOutput.text(error)
                gate.set(.pending(problem: problem))
                if problem != lastProblem { log.warning("not verified yet", metadata: ["error": "\(problem)"]) }
                lastProblem = problem
            }
        }
    }

    private func signal(isVerified: Bool) throws -> StandbySignal {
        var signal = try StandbySignal(decoding: disk.readAll(StandbySignal.fileName))
        signal.isToBeVerified = !isVerified
        return signal
    }

    /// Throws `ContentDiffers` when the two hold different records; anything else says nothing about the content.
    private func compare(_ leader: String, _ isOver: StopFlag) throws -> (lsn: LSN, content: ContentDigest) {
        let address = try WireAddress(leader)
        let client = try WireClient(to: server(address))
        defer { client.close() }
        var named = LSN.zero
        let snapshot = try engine.snapshot { shown in
            let reply = try client.call(
                "DIGEST", "PIN", shown.description, String(Self.pinMilliseconds), patience: .seconds(8))
            guard let lsn = reply["lsn"]?.text.flatMap({ LSN($0) }) else { throw Self.unreadable }
            let own = engine.status
            guard reply["system_identifier"]?.text == own.systemIdentifier.description,
                reply["token"]?.text == own.timelineToken.description
            else { throw OtherTimeline(leader: leader) }
            named = lsn
            return lsn
        }
        defer { snapshot.close() }
        log.info("comparing with the leader", metadata: ["lsn": "\(named)", "leader": "\(leader)"])
        client.send("DIGEST")
        try client.flush()
        let progress = Progress(log)
        let own = try ContentDigest(of: snapshot, while: { !isOver.isSet }, progress: progress.report)
        let theirs = try leaderDigest(client, isOver)
        guard own.digest == theirs.digest, own.records == theirs.records else {
            throw ContentDiffers(lsn: named, leader: leader, own: own, theirs: theirs)
        }
        return (named, own)
    }

    /// The leader may read for as long as it takes: while it lives, the connection ends when it dies.
    private func leaderDigest(_ client: WireClient, _ isOver: StopFlag) throws -> ContentDigest {
        let reply = try client.receive(patience: .unlimited)
        if case .error(let text) = reply { throw WireError.refused(command: "DIGEST", error: text) }
        guard let records = reply["records"]?.integer, let digest = reply["digest"]?.text else { throw Self.unreadable }
        let trees = try (reply["trees"]?.elements ?? []).map { tree -> ContentDigest.Tree in
            guard let name = tree["name"]?.text, let records = tree["records"]?.integer,
                let digest = tree["digest"]?.text
            else { throw Self.unreadable }
            return ContentDigest.Tree(name: name, records: UInt64(clamping: records), digest: digest)
        }
        return ContentDigest(records: UInt64(clamping: records), digest: digest, trees: trees)
    }

    private static var unreadable: WireError {
        .unexpectedReply(command: "DIGEST", "a field of it is missing")
    }

    /// A line now and then while much is read.
    private final class Progress {
        private static let seconds = 10.0
        private let log: Logger
        private var last = ContinuousClock.now
        init(_ log: Logger) { self.log = log }

        func report(_ records: UInt64) {
            let now = ContinuousClock.now
            guard now - last >= .seconds(Self.seconds) else { return }
            last = now
            log.info("comparing with the leader", metadata: ["records": "\(records)"])
        }
    }
}

/// Between two looks the leader or its timeline became another.
struct OtherTimeline: DiagnosableError {
    let leader: String
    var diagnosis: Diagnosis {
        Diagnosis(
            "the leader is not on this follower's timeline", at: printable(leader, limit: 300),
            why: "it was promoted, or another cluster answers there", next: "it is tried again", status: .tryAgain)
    }
}

/// A follower that has replayed everything and holds something else.
struct ContentDiffers: DiagnosableError {
    let lsn: LSN
    let leader: String
    let own: ContentDigest
    let theirs: ContentDigest

    var diagnosis: Diagnosis {
        Diagnosis(
            "this follower does not hold what its leader holds",
            at: "LSN \(lsn), leader \(printable(leader, limit: 300))",
            why: "here \(own.records) records, SHA-256 \(own.digest); there \(theirs.records), \(theirs.digest)"
                + difference,
            next:
                "holdfast check on both nodes shows damage; restore the one that is wrong anew. This node serves nothing",
            status: .dataError)
    }

    private var difference: String {
        guard let (name, own, theirs) = ContentDigest.firstDifference(own, theirs) else { return "" }
        func say(_ tree: ContentDigest.Tree?) -> String { tree.map { "\($0.records) records" } ?? "none" }
        return "; the first tree that differs is \"\(printable(name))\": here \(say(own)), there \(say(theirs))"
    }
}
