import ArgumentParser
import Glibc
import HoldfastCore
import HoldfastCrashSimulator

struct CrashCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "holdfast-crash",
        abstract: "Simulates the engine on a disk that fails, from seeds, and checks what every crash leaves.",
        discussion: """
            One seed is a data directory's whole life: some hundred transactions with checkpoints, segment switches, \
            readers, a backup and an archiver, on a simulated disk with failing calls. At many of its I/O calls a copy of \
            the disk is crashed, recovered, crashed again while it recovers, and checked.

              holdfast-crash --seeds 2000            two minutes or so
              holdfast-crash --seed 1234             repeats the run of one seed exactly
              holdfast-crash --prove                 every planted fault must be caught

            Ends with status 65 when a promise was broken, or a planted fault was not caught.
            """)

    @Option(help: "How many seeds to run.") var seeds: UInt64 = 100
    @Option(help: "The first of them.") var first: UInt64 = 1
    @Option(help: "Only this seed.") var seed: UInt64?
    @Option(help: "Transactions of each seed, at least.") var transactions = 200
    @Option(help: "Of 1,000 I/O calls of a run, so many are crash points.") var density = 250
    @Option(help: "Threads.") var jobs = 2
    @Option(help: "A planted fault, by the name that --list-faults shows.") var plant: String?
    @Flag(help: "Shows the faults that can be planted.") var listFaults = false
    @Flag(help: "Plants every fault in turn, until it is caught.") var prove = false

    func validate() throws {
        guard seeds > 0, transactions > 0, jobs > 0, (1...1000).contains(density) else {
            throw ValidationError("--seeds, --transactions and --jobs begin at 1, --density is 1 to 1000")
        }
        guard (seed ?? first) <= UInt64.max - seeds else {
            throw ValidationError("--first and --seeds pass the last seed")
        }
        if let plant, PlantedFault(rawValue: plant) == nil {
            throw ValidationError("there is no fault \"\(plant)\"; --list-faults shows what there is")
        }
        #if !PlantedFaults
            if prove || plant != nil {
                throw ValidationError("this build has no planted faults: build it with --traits PlantedFaults")
            }
        #endif
    }

    func run() throws {
        if listFaults {
            for fault in PlantedFault.allCases { print(fault.rawValue) }
            return
        }
        let options = SimulationOptions(transactions: transactions, density: density)
        #if PlantedFaults
            if prove { return try proveAll(options) }
            Planting.fault = plant.flatMap { PlantedFault(rawValue: $0) }
        #endif
        let range = seed.map { $0...$0 } ?? first...first + seeds - 1
        let clock = ContinuousClock()
        let start = clock.now
        let isShown = isatty(2) == 1
        let (counts, failure) = Soak.run(range, options, threads: jobs) { ended in
            if isShown, ended % 16 == 0 { Self.show("\r\(ended) of \(range.count) seeds") }
        }
        if isShown { Self.show("\r\u{1B}[K") }
        let seconds = max((clock.now - start) / .seconds(1), 1e-3)
        print(table(counts, violations: failure == nil ? 0 : 1))
        print("seeds/s          \(rate(counts.seeds, seconds))")
        print("crash points/s   \(rate(counts.crashPoints, seconds))")
        guard let failure else { return }
        print("violation        \(failure)")
        print("repeat it with   holdfast-crash --seed \(failure.seed)\(repeating)")
        throw ExitCode(65)
    }

    /// What a repetition needs beside the seed.
    private var repeating: String {
        (plant.map { " --plant \($0)" } ?? "")
            + (transactions == 200 ? "" : " --transactions \(transactions)")
            + (density == 250 ? "" : " --density \(density)")
    }

    private func table(_ counts: Counts, violations: Int) -> String {
        """
        seeds            \(counts.seeds)
        transactions     \(counts.transactions)
        checkpoints      \(counts.checkpoints)
        segment switches \(counts.switches)
        restores         \(counts.restores)
        crash points     \(counts.crashPoints)
        recoveries       \(counts.recoveries)
        second crashes   \(counts.secondCrashes)
        behind bit rot   \(counts.rotten), refused \(counts.refused)
        violations       \(violations)
        """
    }

    private static func show(_ text: String) {
        var text = text
        _ = text.withUTF8 { Glibc.write(2, $0.baseAddress, $0.count) }
    }

    private func rate(_ count: Int, _ seconds: Double) -> String {
        "\((Double(count) / seconds * 10).rounded() / 10)"
    }

    #if PlantedFaults
        private func proveAll(_ options: SimulationOptions) throws {
            var missed: [PlantedFault] = []
            for fault in PlantedFault.allCases {
                let name = fault.rawValue + String(repeating: " ", count: max(0, 28 - fault.rawValue.utf8.count))
                let (failure, counts) = Proof.catches(fault, options, threads: jobs)
                if let failure {
                    print("caught  \(name) \(failure)")
                } else {
                    print("MISSED  \(name) \(counts.seeds) seeds, \(counts.crashPoints) crash points")
                    missed.append(fault)
                }
                fflush(nil)
            }
            print(
                "\(PlantedFault.allCases.count - missed.count) of \(PlantedFault.allCases.count) planted faults caught")
            if !missed.isEmpty { throw ExitCode(65) }
        }
    #endif
}
