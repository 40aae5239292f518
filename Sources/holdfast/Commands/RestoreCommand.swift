import ArgumentParser
import HoldfastAgent

struct RestoreCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "restore", abstract: "Restore a cluster to a moment, into a new data directory.",
        discussion: """
            Picks the backup, checks that it and every WAL segment to the target are there, and unpacks it. `holdfast serve` then \
            replays the archive to the target. Without a target it goes to the end of the archive.

            EXAMPLES
              holdfast restore --cluster main --data /var/lib/holdfast/new
              holdfast restore --data /var/lib/holdfast/new --target-time 2026-11-24T02:00:00+01:00
              holdfast restore --data /var/lib/holdfast/new --target-name before-the-accident
              holdfast restore --data /var/lib/holdfast/replica --follow 10.0.0.1:6420
              holdfast restore --data /var/lib/holdfast/replica --follow 10.0.0.1:6420 --verify
              holdfast restore --data /tmp/copy --target-lsn 0/3000028 --exclusive --no-archive
            """)

    @OptionGroup var configuration: ConfigurationOptions
    @Option(help: "The directory to make.") var data: String?
    @Option(help: "A backup's id; default: the newest from which the target can be reached.") var backup: String?
    @OptionGroup var target: TargetOptions
    @Option(help: "Make a follower of this leader, HOST:PORT or unix:PATH; may be given several times.")
    var follow: [String] = []
    @Option(help: "With --follow: the replication slot to ask for.") var slot: String?
    @Option(help: "With --follow: how the follower names itself; default: the host's name.") var node: String?
    @Flag(help: "With --follow: serve nothing before the content was compared with the leader's, at one LSN.")
    var verify = false
    @Flag(help: "Not in this release.") var delta = false
    @Flag(help: "A test copy: it neither claims a timeline nor archives.") var noArchive = false
    @Flag(help: "Restore although the cluster's leader is alive: it stops accepting writes.") var takeOver = false
    @Option(help: "Threads that unpack.") var workers: Int?
    @Flag(help: "Say what would be restored, and change nothing.") var dryRun = false
    @OptionGroup var output: OutputOptions

    func run() throws {
        if delta { throw NotInThisRelease("restore --delta") }
        guard !(noArchive && takeOver) else {
            throw UsageError(what: "--no-archive and --take-over exclude each other", next: "give one of them")
        }
        try requirePositive(workers, "--workers")
        let configuration = try configuration.load(["data": (option: "--data", text: data)])
        let log = LogOutput.start(configuration.logLevel)
        let bar = ProgressBar("restore")
        var restore = try RestoreCluster(configuration, target.choice, log: log)
        restore.request.backup = backup
        restore.request.isCopy = noArchive
        restore.request.takesOver = takeOver
        if let workers { restore.request.workers = workers }
        try restore.follow(follow, node: node, slot: slot, isToBeVerified: verify)
        restore.request.command = RestoreCluster.repeatable(CommandLine.arguments)
        restore.progress = { bar.report(done: $0, total: $1) }
        defer { bar.finish() }
        let report = dryRun ? try restore.plan() : try restore.run()
        bar.finish()
        try output.print(report)
    }
}
