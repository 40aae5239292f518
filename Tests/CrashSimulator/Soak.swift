import Dispatch
import HoldfastCore
import Synchronization

/// Runs seeds, on several threads; the outcome does not depend on how many.
public enum Soak {
    /// - Parameters:
    ///   - seeds: run in this order, until one fails.
    ///   - progress: called now and then with the seeds that have ended, on any thread.
    /// - Returns: what was counted up to and with the first seed that failed, and how it failed.
    public static func run(
        _ seeds: ClosedRange<UInt64>, _ options: SimulationOptions, threads: Int,
        progress: (@Sendable (Int) -> Void)? = nil
    ) -> (counts: Counts, failure: Failure?) {
        let next = Atomic<UInt64>(seeds.lowerBound)
        let ended = Mutex<(outcomes: [UInt64: (Counts, Failure?)], firstFailed: UInt64)>(([:], .max))
        DispatchQueue.concurrentPerform(iterations: threads) { _ in
            while true {
                let seed = next.wrappingAdd(1, ordering: .relaxed).oldValue
                guard seeds.contains(seed), seed < ended.withLock({ $0.firstFailed }) else { return }
                let run = SeedRun(seed: seed, options: options)
                let failure = run.run()
                let count = ended.withLock { ended in
                    ended.outcomes[seed] = (run.counts, failure)
                    if failure != nil { ended.firstFailed = min(ended.firstFailed, seed) }
                    return ended.outcomes.count
                }
                progress?(count)
            }
        }
        var counts = Counts()
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
        /// - Returns: how it was caught, `nil` when it was not; and after how many seeds.
        public static func catches(
            _ fault: PlantedFault, _ options: SimulationOptions = SimulationOptions(), threads: Int
        ) -> (failure: Failure?, counts: Counts) {
            Planting.fault = fault
            defer { Planting.fault = nil }
            let (counts, failure) = Soak.run(1...seedBudget, options, threads: threads)
            return (failure, counts)
        }
    }
#endif
