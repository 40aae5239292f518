// Readers on old versions, writers, checkpoints and backups at once on a directory of the disk, every read checked against
// the version it pinned. Ends with status 1 when one was wrong.
//
//     swift run -c release -Xswiftc -enforce-exclusivity=unchecked holdfast-stress [seconds] [directory]
//
// HOLDFAST_SEED=n repeats the choices of a run; which thread comes first is the machine's.

import Foundation
import HoldfastStress
import HoldfastTestSupport

let arguments = Array(CommandLine.arguments.dropFirst())
guard let seconds = arguments.isEmpty ? 10 : Double(arguments[0]), seconds > 0 else {
    FileHandle.standardError.write(Data("holdfast-stress: '\(arguments[0])' is no number of seconds\n".utf8))
    exit(64)
}
var settings = StressSettings()
settings.seconds = seconds
settings.seed = SeededGenerator.announcedSeed("stress")

let report: StressReport
let temporary = arguments.count > 1 ? nil : try TemporaryDirectory("holdfast-stress")
do {
    report = try StressRun(settings, in: temporary?.path ?? arguments[1]).run()
} catch {
    FileHandle.standardError.write(Data("holdfast-stress: \(error)\n".utf8))
    exit(1)
}
print(
    """
    transactions  \(report.transactions), and \(report.rollbacks) rolled back
    snapshots     \(report.snapshots)
    reads         \(report.reads) groups of \(settings.keys) keys, \(report.oldReads) of them of replaced versions
    too old       \(report.tooOld)
    checkpoints   \(report.checkpoints)
    backups       \(report.backups), of \(report.backupPages) pages
    violations    \(report.violations.count)
    """)
for violation in report.violations { print(violation) }
exit(report.violations.isEmpty ? 0 : 1)
