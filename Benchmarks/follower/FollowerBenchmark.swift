import ArgumentParser
import BenchmarkSupport
import Foundation
import HoldfastTestSupport

/// The command: makes the sides, and runs the sections that were asked for.
struct FollowerBenchmark: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench-follower", abstract: "Measures followers beside PostgreSQL 18's standbys.")

    @Option(help: "Megabytes of records on each side.") var mb = 1500
    @Option(help: "Rounds, in each of which both sides do everything.") var rounds = 3
    @Option(help: "MiB of log that a follower catches up; default: 1024 for 1500 MB of records, and in proportion.")
    var log: Int?
    @Option(help: "MiB of log of a leader that is rewound behind the fork.") var divergence = 100
    @Option(help: "Seconds of each run under load.") var seconds = 10
    @Argument(help: "What is measured; default: all.") var sections: [Section] = Section.allCases

    func run() throws {
        let content = Content(megabytes: mb)
        var sides: [any Contender] = [try HoldfastContender(content)]
        if let programs = try PostgresPrograms() {
            let kept = max(logMegabytes, divergence) * 3 / 2
            sides.append(try PostgresContender(content, programs, keptLogMegabytes: kept))
        } else {
            say("PostgreSQL 18 is left out: HOLDFAST_BENCH_PG18 names no directory with its programs")
        }
        for side in sides { say("\(side.name): \(side.settings)") }
        let run = SectionRun(
            rounds: rounds, logMegabytes: logMegabytes, divergenceMegabytes: divergence, loadSeconds: seconds,
            sides: sides)
        // In the order of the list: the last ones change who leads.
        for section in Section.allCases where sections.contains(section) {
            say("\n\(section.rawValue): target: \(section.target)")
            try run.measure(section)
        }
    }

    private var logMegabytes: Int { log ?? max(16, 1024 * mb / 1500) }
}

/// What can be measured, in the order in which it is.
enum Section: String, CaseIterable, ExpressibleByArgument {
    case provision, catchup, lag, promote, rewind, failover

    var target: String {
        switch self {
        case .provision: "half of PostgreSQL's time; of the leader only the log that is not archived yet is read"
        case .catchup: "4 times PostgreSQL's speed"
        case .lag: "p99 under 10 ms; less than 10 % of the throughput for each follower"
        case .promote: "under 1 s"
        case .rewind: "under 3 s after 100 MB of divergence"
        case .failover: "the time to live and 2 s"
        }
    }
}
