import HoldfastFailoverSoak
import HoldfastTestSupport
import HostHarness
import Testing

/// A short share of what `holdfast-failover` does for hours.
@Suite(
    "Failovers of hosts under load", .serialized,
    .enabled(if: HostNetwork.obstacle == nil, whyNoHosts),
    .enabled(if: EtcdServer.program != nil, "etcd-server is not installed"))
struct HostFailoverTests {
    /// The default: short leases lapse on a machine that runs hundreds of tests beside this.
    private static let ttlSeconds = 10

    @Test(
        "E2, E4, E5: a leader is cut off, then one killed: acknowledged writes stay, a timeline is one node's, all end equal"
    )
    func withFollowers() {
        run(
            minimumFollowers: 1,
            faults: [[.partition, .mute, .deafen, .isolate], [.kill, .partitionAndKill, .loseHost]])
    }

    @Test("E2, E4: without synchronous followers what none had received is lost, and told by the rewind")
    func withoutFollowers() {
        run(minimumFollowers: 0, faults: [[.partition]])
    }

    /// One round for each list of faults.
    private func run(minimumFollowers: Int, faults: [[LeaderFault]]) {
        var settings = SoakSettings()
        settings.seed = SeededGenerator.announcedSeed("failovers")
        settings.rounds = faults.count
        settings.minimumFollowers = minimumFollowers
        settings.ttlSeconds = Self.ttlSeconds
        settings.faults = faults
        let report = FailoverSoak(settings) { print("failovers: \($0)") }.run()
        #expect(report.failures == [])
        #expect(report.failovers >= faults.count)
        #expect(report.rewinds >= 1, "the old leader comes back by a rewind")
        #expect(report.acknowledged > 0)
    }
}
