import ArgumentParser
import HoldfastAgent

struct WALCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "wal", abstract: "Look at and move WAL segments by hand.",
        discussion: """
            EXAMPLES
              holdfast wal list
              holdfast wal dump 000000010000000000000003
              holdfast wal dump --data /var/lib/holdfast/main --stats
              holdfast wal switch
            """,
        subcommands: [Push.self, Fetch.self, List.self, Dump.self, Switch.self])

    struct Push: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Push segments of a data directory to the archive; all that wait when none is named.",
            discussion: """
                EXAMPLES
                  holdfast wal push --data /var/lib/holdfast/main
                  holdfast wal push --data /var/lib/holdfast/main 000000010000000000000003
                """)

        @OptionGroup var configuration: ConfigurationOptions
        @Option(help: "The data directory.") var data: String?
        @Argument(help: "Names of segments.") var segments: [String] = []
        @OptionGroup var output: OutputOptions

        func run() throws {
            let configuration = try configuration.load(["data": (option: "--data", text: data)])
            let log = LogOutput.start(configuration.logLevel)
            try output.print(WALOperations.push(configuration, segments: segments, log: log))
        }
    }

    struct Fetch: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Fetch one segment from the archive, checked, into a new file.",
            discussion: """
                EXAMPLES
                  holdfast wal fetch 000000010000000000000003 /tmp/segment
                """)

        @OptionGroup var configuration: ConfigurationOptions
        @Argument(help: "The segment's name.") var segment: String
        @Argument(help: "The file to make.") var path: String
        @OptionGroup var output: OutputOptions

        func run() throws {
            try output.print(WALOperations.fetch(configuration.load(), segment: segment, to: path))
        }
    }

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "List the archived WAL: each contiguous range, or each segment.",
            discussion: """
                EXAMPLES
                  holdfast wal list
                  holdfast wal list --segments --format json
                """)

        @OptionGroup var configuration: ConfigurationOptions
        @Flag(help: "A line for each segment.") var segments = false
        @OptionGroup var output: OutputOptions

        func run() throws {
            try output.print(WALOperations.list(configuration.load(), everySegment: segments))
        }
    }

    struct Dump: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show the records of the log, a line each, or what they amount to.",
            discussion: """
                Of a segment: a file, or a name in the archive. With --data: of a data directory, used or not. With \
                neither: of the archive. The options narrow it down; a page's commits are shown with the part that \
                holds the page, a transaction's with all.

                EXAMPLES
                  holdfast wal dump /var/lib/holdfast/main/wal/000000010000000000000003
                  holdfast wal dump 000000010000000000000003 --format json
                  holdfast wal dump --data /var/lib/holdfast/main --page 17 --from 0/3000028
                  holdfast wal dump --transaction 1017
                  holdfast wal dump --data /var/lib/holdfast/main --stats
                """)

        @OptionGroup var configuration: ConfigurationOptions
        @Argument(help: "A file, or a segment's name.") var source: String?
        @Option(help: "A data directory.") var data: String?
        @Option(help: "The timeline whose history is followed; default: the latest.") var timeline: UInt32?
        @Option(help: "A kind of record (commit, checkpoint, restorePoint …); may be given again.") var kind: [String] =
            []
        @Option(help: "Only commits that change this page.") var page: UInt32?
        @Option(help: "Only the commit that bears this transaction number.") var transaction: UInt64?
        @Option(help: "From the first record that begins at or behind this LSN.") var from: String?
        @Option(help: "To the last record that begins before this LSN.") var to: String?
        @Flag(help: "Counts and bytes for each kind, and of page images, instead of records.") var stats = false
        @OptionGroup var output: OutputOptions

        func run() throws {
            let output = output
            let request = WALDumpRequest(
                segment: source, data: data, timeline: timeline, kinds: kind, page: page, transaction: transaction,
                from: from, to: to, showsStatistics: stats, asJSON: output.format == .json)
            try WALDump.run(request, { try configuration.load() }) { try output.write($0) }
        }
    }

    struct Switch: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Close the leader's current segment, so that it is archived now.",
            discussion: """
                EXAMPLES
                  holdfast wal switch --connect unix:/run/holdfast/main.sock
                """)

        @OptionGroup var configuration: ConfigurationOptions
        @OptionGroup var server: ConnectOptions
        @OptionGroup var output: OutputOptions

        func run() throws { try output.print(ServerOperations.switchWAL(at: server.server(configuration))) }
    }
}
