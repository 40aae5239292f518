import ArgumentParser
import HoldfastAgent

struct CatalogCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "catalog", abstract: "Set up and look after the catalog in an external PostgreSQL.",
        discussion: """
            EXAMPLES
              holdfast catalog migrate
              holdfast catalog status --format json
            """,
        subcommands: [Migrate.self, Status.self, Flush.self, Rebuild.self])

    /// What all four have.
    struct Options: ParsableArguments {
        @OptionGroup var configuration: ConfigurationOptions
        @OptionGroup var output: OutputOptions

        func run(_ body: (CatalogFacts) throws -> Report) throws {
            let configuration = try configuration.load()
            try output.print(
                body(CatalogFacts.required(configuration, log: LogOutput.start(configuration.logLevel))))
        }
    }

    struct Migrate: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Bring the schema up to this release's version.",
            discussion: """
                EXAMPLES
                  holdfast catalog migrate
                """)
        @OptionGroup var options: Options
        func run() throws { try options.run { try $0.migrate() } }
    }

    struct Status: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Say whether the catalog can be used, and what waits.",
            discussion: """
                EXAMPLES
                  holdfast catalog status --format json
                """)
        @OptionGroup var options: Options
        func run() throws { try options.run { try $0.status() } }
    }

    struct Flush: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Deliver what waits in the outbox, now.",
            discussion: """
                EXAMPLES
                  holdfast catalog flush
                """)
        @OptionGroup var options: Options
        func run() throws { try options.run { try $0.flush() } }
    }

    struct Rebuild: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Read the whole repository and write what is there into the catalog.",
            discussion: """
                EXAMPLES
                  holdfast catalog rebuild
                """)
        @OptionGroup var options: Options
        func run() throws { try options.run { try $0.rebuild() } }
    }
}
