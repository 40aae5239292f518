import HoldfastCore
import HoldfastCrashSimulator
import HoldfastTestSupport
import Testing

@Suite("The simulator")
struct SimulatorTests {
    @Test("A1, A2, A4: seeds of the simulator break no promise")
    func sound() {
        let (counts, failure) = Soak.run(1...2, SimulationOptions(transactions: 40, density: 20), threads: 2)
        #expect(failure == nil)
        #expect(counts.seeds == 2 && counts.crashPoints > 0)
    }
}
