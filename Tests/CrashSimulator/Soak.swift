import Dispatch
import HoldfastCore
import Synchronization

/// What one seed is carried out by.
public protocol SeededRun {
    associatedtype Options: Sendable
    associatedtype Tally: RunTally
    init(seed: UInt64, options: Options)
    /// - Returns: the first broken promise, if any.
    func run() -> Failure?
    var counts: Tally { get }
}

/// What seeds have counted.
public protocol RunTally: Sendable {
    init()
    static func += (a: inout Self, b: Self)
}

/// Runs seeds, on several threads; the outcome does not depend on how many.
public enum Soak {
    /// - Parameters:
    ///   - seeds: run in this order, until one fails.
    ///   - progress: called now and then with the seeds that have ended, on any thread.
    /// - Returns: what was counted up to and with the first seed that failed, and how it failed.
    public static func run<Run: SeededRun>(
        _ kind: Run.Type, _ seeds: ClosedRange<UInt64>, _ options: Run.Options, threads: Int,
        progress: (@Sendable (Int) -> Void)? = nil
    ) -> (counts: Run.Tally, failure: Failure?) {
        let next = Atomic<UInt64>(seeds.lowerBound)
        let ended = Mutex<(outcomes: [UInt64: (Run.Tally, Failure?)], firstFailed: UInt64)>(([:], .max))
        DispatchQueue.concurrentPerform(iterations: threads) { _ in
            while true {
                let seed = next.wrappingAdd(1, ordering: .relaxed).oldValue
                guard seeds.contains(seed), seed < ended.withLock({ $0.firstFailed }) else { return }
                let run = Run(seed: seed, options: options)
                let failure = run.run()
                let count = ended.withLock { ended in
                    ended.outcomes[seed] = (run.counts, failure)
                    if failure != nil { ended.firstFailed = min(ended.firstFailed, seed) }
                    return ended.outcomes.count
                }
                progress?(count)
            }
        }
        var counts = Run.Tally()
        for (_, outcome) in ended.withLock({ $0.outcomes }).sorted(by: { $0.key < $1.key }) {
            counts += outcome.0
            if let failure = outcome.1 { return (counts, failure) }
        }
        return (counts, nil)
    }
}

#if PlantedFaults
    /// The prover proven: the simulator must catch every planted fault.
    public enum Proof {
        /// Seeds that may go by before a fault counts as missed.
        static let seedBudget: UInt64 = 400

        /// Plants `fault` in this process, in which no engine runs, until it is caught.
        /// - Returns: how it was caught, `nil` when it was not; and after how many seeds and crash points.
        public static func catches(
            _ fault: PlantedFault, threads: Int
        ) -> (failure: Failure?, seeds: Int, crashPoints: Int) {
            Planting.fault = fault
            defer { Planting.fault = nil }
            if fault.isOfFollowers {
                let (counts, failure) = Soak.run(ClusterRun.self, 1...seedBudget, ClusterOptions(), threads: threads)
                return (failure, counts.seeds, counts.crashPoints)
            }
            let (counts, failure) = Soak.run(SeedRun.self, 1...seedBudget, SimulationOptions(), threads: threads)
            return (failure, counts.seeds, counts.crashPoints)
        }
    }
#endif
