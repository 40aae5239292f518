import ArgumentParser
import Foundation
import HoldfastFailoverSoak
import HoldfastTestSupport
import HostHarness

struct FailoverCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "holdfast-failover",
        abstract: "Fails leaders over under load, and checks what clients were told.",
        discussion: """
            Three real nodes with their agents, etcd and clients are on hosts of their own, which are network namespaces: \
            that needs root, iproute2, nftables and etcd-server. In each round the leader is killed, cut off in some way, \
            paused, or cut off and killed; another takes over; the old one comes back, rewound. Then every acknowledged \
            write must be on the new leader, each key's history linearizable, each timeline one node's, and all nodes equal.

              holdfast-failover --rounds 100
              holdfast-failover --rounds 1 --seed 1234    repeats the choices of the round with this seed
              holdfast-failover --min-followers 0         what no follower had received is lost, and must be told

            Ends with status 65 when something was wrong.
            """)

    @Option(help: "How many failovers.") var rounds = 100
    @Option(help: "The first round's seed; each further one has the next. Default: of the clock.") var seed: UInt64?
    @Option(help: "Followers that must have a write before it is acknowledged: 0 to 2.") var minFollowers = 1
    @Option(help: "Seconds of the leader's lease, from 2.") var ttl = 3
    @Option(help: "Clients.") var clients = 6
    @Option(help: "Only these faults: \(LeaderFault.allCases.map(\.rawValue).joined(separator: ", ")).")
    var fault: [LeaderFault] = []
    @Option(help: "Where the nodes' logs go when something is wrong.") var logs: String?

    func validate() throws {
        guard rounds > 0, clients > 0, ttl >= 2, (0...2).contains(minFollowers) else {
            throw ValidationError("--rounds and --clients begin at 1, --ttl at 2, --min-followers is 0 to 2")
        }
    }

    func run() throws {
        if let obstacle = HostNetwork.obstacle {
            FileHandle.standardError.write(Data("holdfast-failover: \(obstacle)\n".utf8))
            throw ExitCode(77)
        }
        var settings = SoakSettings()
        settings.seed = seed ?? UInt64.random(in: 1...0xFFFF_FFFF)
        settings.rounds = rounds
        settings.minimumFollowers = minFollowers
        settings.ttlSeconds = ttl
        settings.clients = clients
        settings.logs = logs
        if !fault.isEmpty { settings.faults = [fault] }
        Self.say("seed \(settings.seed), min_followers \(minFollowers), ttl \(ttl) s, \(clients) clients")
        let report = FailoverSoak(settings, say: Self.say).run()
        Self.say(Self.table(report))
        for failure in report.failures { Self.say("wrong         \(failure)") }
        if !report.failures.isEmpty { throw ExitCode(65) }
    }

    private static func table(_ report: SoakReport) -> String {
        let seconds = report.unavailableSeconds.sorted()
        let spread =
            seconds.isEmpty
            ? "none"
            : [seconds[0], seconds[seconds.count / 2], seconds[seconds.count - 1]]
                .map { String(format: "%.1f", $0) }.joined(separator: " / ")
        return """
            rounds        \(report.rounds), \(report.failovers) failovers, \(report.rewinds) rewinds
            writes        \(report.acknowledged) acknowledged, \(report.unknown) of unknown outcome, \(report.lost) lost and told
            unavailable   \(spread) s (least, median, most)
            plain reads   \(report.earlyReads) of writes that were then lost, \(report.keysReadLate) keys read late
            violations    \(report.failures.count)
            """
    }

    private static func say(_ text: String) {
        print(text)
        fflush(nil)
    }
}

extension LeaderFault: ExpressibleByArgument {}
