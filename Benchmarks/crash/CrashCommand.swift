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
              holdfast-crash --followers --seeds 500 a leader, two followers and a repository
              holdfast-crash --prove                 every planted fault must be caught

            With --followers a seed is a cluster's life: its network, clocks and repository fail as well, followers are \
            promoted, and nodes come back by a rewind or as a new copy. All of it runs on one thread, step by step, so that \
            a seed repeats every step and every call; what it does not fix is told in the README.

            Ends with status 65 when a promise was broken, or a planted fault was not caught.
            """)

    @Flag(help: "Simulates clusters: a leader, two followers and a repository.") var followers = false
    @Option(help: "How many seeds to run.") var seeds: UInt64 = 100
    @Option(help: "The first of them.") var first: UInt64 = 1
    @Option(help: "Only this seed.") var seed: UInt64?
    @Option(help: "Transactions of each seed, at least.") var transactions = 200
    @Flag(help: "With --followers: prints what happens, for one seed.") var trace = false
    @Option(help: "With --followers: steps of each seed.") var steps = 260
    @Option(help: "Of 1,000 I/O calls of a run, so many are crash points (250; with --followers 60).") var density: Int?
    @Option(help: "Threads.") var jobs = 2
    @Option(help: "A planted fault, by the name that --list-faults shows.") var plant: String?
    @Flag(help: "Shows the faults that can be planted.") var listFaults = false
    @Flag(help: "Plants every fault in turn, until it is caught; with --followers only those of followers.")
    var prove = false

    func validate() throws {
        guard seeds > 0, transactions > 0, steps > 0, jobs > 0, (1...1000).contains(density ?? 1) else {
            throw ValidationError("--seeds, --transactions, --steps and --jobs begin at 1, --density is 1 to 1000")
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
        #if PlantedFaults
            if prove { return try proveAll() }
            Planting.fault = plant.flatMap { PlantedFault(rawValue: $0) }
        #endif
        if followers {
            var options = ClusterOptions(steps: steps, density: density ?? 60)
            options.isTraced = trace
            try run(ClusterRun.self, options) { table($0) }
        } else {
            try run(SeedRun.self, SimulationOptions(transactions: transactions, density: density ?? 250)) { table($0) }
        }
    }

    private func run<Run: SeededRun>(
        _ kind: Run.Type, _ options: Run.Options, _ table: (Run.Tally) -> [(name: String, value: Int)]
    ) throws {
        let range = seed.map { $0...$0 } ?? first...first + seeds - 1
        let clock = ContinuousClock()
        let start = clock.now
        let isShown = isatty(2) == 1
        let (counts, failure) = Soak.run(kind, range, options, threads: jobs) { ended in
            if isShown, ended % 16 == 0 { Self.show("\r\(ended) of \(range.count) seeds") }
        }
        if isShown { Self.show("\r\u{1B}[K") }
        let seconds = max((clock.now - start) / .seconds(1), 1e-3)
        let lines = table(counts) + [("violations", failure == nil ? 0 : 1)]
        for (name, value) in lines { print(Self.column(name) + "\(value)") }
        for name in ["seeds", "crash points"] {
            guard let value = lines.first(where: { $0.name == name })?.value else { continue }
            print(Self.column(name + "/s") + rate(value, seconds))
        }
        guard let failure else { return }
        print(Self.column("violation") + "\(failure)")
        print(Self.column("repeat it with") + "holdfast-crash --seed \(failure.seed)\(repeating)")
        throw ExitCode(65)
    }

    /// What a repetition needs beside the seed.
    private var repeating: String {
        (followers ? " --followers" : "") + (plant.map { " --plant \($0)" } ?? "")
            + (followers || transactions == 200 ? "" : " --transactions \(transactions)")
            + (followers && steps != 260 ? " --steps \(steps)" : "")
            + (density.map { " --density \($0)" } ?? "")
    }

    private static func column(_ name: String) -> String {
        name + String(repeating: " ", count: max(1, 22 - name.utf8.count))
    }

    private func table(_ counts: Counts) -> [(name: String, value: Int)] {
        [
            ("seeds", counts.seeds), ("transactions", counts.transactions), ("checkpoints", counts.checkpoints),
            ("segment switches", counts.switches), ("restores", counts.restores),
            ("crash points", counts.crashPoints), ("recoveries", counts.recoveries),
            ("second crashes", counts.secondCrashes), ("behind bit rot", counts.rotten),
            ("refused for bit rot", counts.refused),
        ]
    }

    private func table(_ counts: ClusterCounts) -> [(name: String, value: Int)] {
        [
            ("seeds", counts.seeds), ("steps", counts.steps), ("transactions", counts.transactions),
            ("lost connections", counts.lostConnections), ("crashes", counts.crashes),
            ("promotions", counts.promotions), ("refused promotions", counts.refusedPromotions),
            ("rewinds", counts.rewinds), ("new copies", counts.newCopies), ("backups", counts.backups),
            ("diverged followers", counts.diverged), ("crash points", counts.crashPoints),
            ("distinct crash points", counts.distinctCrashPoints.count),
        ]
    }

    private static func show(_ text: String) {
        var text = text
        _ = text.withUTF8 { Glibc.write(2, $0.baseAddress, $0.count) }
    }

    private func rate(_ count: Int, _ seconds: Double) -> String {
        "\((Double(count) / seconds * 10).rounded() / 10)"
    }

    #if PlantedFaults
        private func proveAll() throws {
            let faults = PlantedFault.allCases.filter { $0.isOfFollowers || !followers }
            var missed: [PlantedFault] = []
            for fault in faults {
                let name = fault.rawValue + String(repeating: " ", count: max(0, 28 - fault.rawValue.utf8.count))
                let (failure, seeds, crashPoints) = Proof.catches(fault, threads: jobs)
                if let failure {
                    print("caught  \(name) \(failure)")
                } else {
                    print("MISSED  \(name) \(seeds) seeds, \(crashPoints) crash points")
                    missed.append(fault)
                }
                fflush(nil)
            }
            print("\(faults.count - missed.count) of \(faults.count) planted faults caught")
            if !missed.isEmpty { throw ExitCode(65) }
        }
    #endif
}
