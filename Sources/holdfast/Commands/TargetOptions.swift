import ArgumentParser
import HoldfastAgent

/// Where replay is to stop.
struct TargetOptions: ParsableArguments {
    enum Action: String, ExpressibleByArgument, CaseIterable { case promote, pause, shutdown }

    @Option(help: "RFC 3339 with a zone: the last commit at or before it.") var targetTime: String?
    @Option(help: "The last commit that ends at or before this LSN.") var targetLsn: String?
    @Option(help: "A named restore point.") var targetName: String?
    @Option(help: "The commit of this transaction.") var targetTransaction: String?
    @Flag(help: "As soon as the backup is consistent.") var targetImmediate = false
    @Flag(help: "Stop just before the target, not just after it.") var exclusive = false
    @Option(help: "current, latest, or a timeline's number.") var targetTimeline = "latest"
    @Option(help: "promote, pause or shutdown.") var targetAction = Action.promote

    var choice: TargetChoice {
        TargetChoice(
            time: targetTime, lsn: targetLsn, name: targetName, transaction: targetTransaction,
            isImmediate: targetImmediate, isExclusive: exclusive, timeline: targetTimeline,
            action: targetAction.rawValue)
    }
}
