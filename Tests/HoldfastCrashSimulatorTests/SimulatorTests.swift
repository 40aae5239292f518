import HoldfastCore
import HoldfastCrashSimulator
import HoldfastTestSupport
import Testing

@Suite("The simulator finds what breaks a promise, and repeats it", .serialized)
struct SimulatorTests {
    @Test("A1, A2, A4, A6: seeds of the simulator break no promise")
    func sound() {
        let first = SeededGenerator.announcedSeed("seeds of the simulator from")
        let (counts, failure) = Soak.run(
            SeedRun.self, first...first + 3, SimulationOptions(transactions: 40, density: 40), threads: 2)
        #expect(failure == nil)
        #expect(counts.seeds == 4 && counts.transactions >= 160)
        #expect(counts.checkpoints >= 4 && counts.switches >= 4)
        #expect(counts.crashPoints > 20 && counts.recoveries > counts.crashPoints && counts.secondCrashes > 0)
    }

    @Test("a seed does the same again, on however many threads")
    func repeatable() {
        let options = SimulationOptions(transactions: 30, density: 30)
        let one = Soak.run(SeedRun.self, 7...9, options, threads: 1)
        let two = Soak.run(SeedRun.self, 7...9, options, threads: 2)
        #expect(one.counts == two.counts)
        #expect(one.counts != Soak.run(SeedRun.self, 10...12, options, threads: 2).counts)
    }

    @Test("E1, E2, E4, E5: seeds of clusters with two followers break no promise")
    func clusters() {
        let first = SeededGenerator.announcedSeed("seeds of clusters from")
        let (counts, failure) = Soak.run(
            ClusterRun.self, first...first + 1, ClusterOptions(steps: 100, density: 8), threads: 2)
        #expect(failure == nil)
        #expect(counts.seeds == 2 && counts.steps == 200 && counts.transactions > 10)
    }

    @Test("a cluster's seed does the same again")
    func repeatableClusters() {
        let options = ClusterOptions(steps: 80, density: 8)
        let one = Soak.run(ClusterRun.self, 5...6, options, threads: 1)
        #expect(one.counts == Soak.run(ClusterRun.self, 5...6, options, threads: 2).counts)
    }

    #if PlantedFaults
        @Test("every planted fault is caught", arguments: PlantedFault.allCases)
        func caught(_ fault: PlantedFault) {
            let (failure, _, crashPoints) = Proof.catches(fault, threads: 2)
            #expect(failure != nil, "\(fault) went unnoticed through \(crashPoints) crash points")
        }
    #else
        @Test("no fault can be planted in an ordinary build", arguments: PlantedFault.allCases)
        func absent(_ fault: PlantedFault) { #expect(!planted(fault)) }
    #endif
}
