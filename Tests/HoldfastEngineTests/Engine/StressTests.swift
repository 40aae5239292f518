import HoldfastCore
import HoldfastStress
import HoldfastTestSupport
import Testing

@testable import HoldfastEngine

/// A short run of `holdfast-stress`.
@Suite("Every read is of the version that its snapshot pinned", .serialized)
struct StressTests {
    @Test("old readers, writers, checkpoints, backups and too little version memory, all at once")
    func stress() throws {
        let directory = try TemporaryDirectory("stress")
        var settings = StressSettings()
        settings.seconds = 4
        settings.seed = SeededGenerator64.announced("stress")
        let report = try StressRun(settings, in: directory.path).run()
        print("stress: \(report)")
        #expect(report.violations == [])
        // Each part of it has run.
        #expect(report.transactions > 0 && report.checkpoints > 0 && report.backups > 0)
        #expect(report.reads > 0 && report.oldReads > 0)
        let engine = try Engine(opening: RealDisk(root: directory.path))
        #expect(try engine.problems() == [])
        try engine.close()
    }
}
