import ArgumentParser
import HoldfastAgent

struct BackupCommand: ParsableCommand {
    enum Kind: String, ExpressibleByArgument, CaseIterable { case full, incr }

    static let configuration = CommandConfiguration(
        commandName: "backup",
        abstract: "Take an online base backup of the leader, or of a follower, into the repository.",
        discussion: """
            Writers are not stopped. The WAL of the backup must be archived (holdfast agent) before it counts. A follower's \
            backup writes nothing on the leader: it waits until the leader has completed the last segment, at its archive.timeout.

            EXAMPLES
              holdfast backup --cluster main
              holdfast backup --label before-upgrade --format json
              holdfast backup --connect 10.0.0.2:6420
            """)

    @OptionGroup var configuration: ConfigurationOptions
    @Option(help: "full, or incr (not in this release).") var type = Kind.full
    @Option(help: "A name that info shows.") var label = "backup"
    @Option(help: "The node to copy, a leader or a follower; default: the configuration's leader.") var connect: String?
    @Option(help: "Page bytes read in a second at most, such as 100MiB.") var maxRate: String?
    @Flag(help: "Spare the leader's disk: a paced checkpoint at the start.") var spread = false
    @OptionGroup var output: OutputOptions

    func run() throws {
        guard type == .full else { throw NotInThisRelease("backup --type incr") }
        let configuration = try configuration.load(["leader": (option: "--connect", text: connect)])
        var backup = TakeBackup(configuration, log: LogOutput.start(configuration.logLevel))
        backup.label = label
        backup.isFast = !spread
        if let maxRate {
            guard let bytes = Quantities.bytes(maxRate), bytes > 0 else {
                throw UsageError(what: "--max-rate is not a size", next: "write it with KiB, MiB or GiB: 100MiB")
            }
            backup.maxRateBytesPerSecond = UInt64(bytes)
        }
        let bar = ProgressBar("backup")
        backup.progress = { bar.report(done: $0, total: $1) }
        defer { bar.finish() }
        let record = try backup.run()
        bar.finish()
        try output.print(TakeBackup.report(record))
    }
}
