import ArgumentParser
import HoldfastAgent

struct PageCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "page", abstract: "Look at pages of a data directory.",
        discussion: """
            EXAMPLES
              holdfast page dump --data /var/lib/holdfast/main 17
            """, subcommands: [Dump.self])

    struct Dump: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract:
                "Show the fields of one page as it lies in its file, damaged or not; and whether its checksum holds.",
            discussion: """
                Page 0 holds the size of the page space and the head of the free list, page 1 is the root of the tree of \
                trees. Keys are shown, values are not. Ends with 65 when the page is damaged.

                EXAMPLES
                  holdfast page dump --data /var/lib/holdfast/main 17
                  holdfast page dump --data /var/lib/holdfast/main 0 --format json
                """)

        @OptionGroup var configuration: ConfigurationOptions
        @Option(help: "The data directory.") var data: String?
        @Argument(help: "The page's number.") var page: UInt32
        @OptionGroup var output: OutputOptions

        func run() throws {
            let data = try data ?? configuration.load().requiredData()
            try output.print(PageReport.run(data, page: page))
        }
    }
}
