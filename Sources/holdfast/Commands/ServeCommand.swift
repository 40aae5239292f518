import ArgumentParser
import HoldfastAgent

struct ServeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve", abstract: "Serve a data directory over RESP (what redis-cli speaks).",
        discussion: """
            Listens on loopback TCP (records only) and, with --socket, on a unix socket where the server's own user may \
            do everything. Any other address needs server.tls and server.users_file. After a restore it first replays \
            the archive to the target. SIGTERM stops it in order; SIGHUP reads certificates and users again.

            EXAMPLES
              holdfast serve --data /var/lib/holdfast/main --socket /run/holdfast/main.sock
              holdfast serve --config /etc/holdfast/main.yaml
              holdfast serve --config /etc/holdfast/main.yaml --verify-wal
              holdfast serve --config /etc/holdfast/main.yaml --verify
            """)

    @OptionGroup var configuration: ConfigurationOptions
    @Option(help: "The data directory.") var data: String?
    @Option(help: "HOST:PORT to listen on.") var listen: String?
    @Option(help: "Path of the unix socket.") var socket: String?
    @Flag(help: "Archive nothing and claim nothing: for a copy. A recovery still reads the archive.") var noArchive =
        false
    @Flag(
        name: .customLong("verify-wal"),
        help: "Carry out each commit's redo and compare it with the pages; a difference ends the server with status 70."
    )
    var verifiesWAL = false

    @Flag(help: "A follower serves nothing before its content was compared with its leader's, at one LSN.")
    var verify = false

    @Flag(help: "Let everybody do everything, on any address, without users and TLS.") var insecure = false

    func run() async throws {
        let configuration = try configuration.load([
            "data": (option: "--data", text: data), "server.listen": (option: "--listen", text: listen),
            "server.socket": (option: "--socket", text: socket),
        ])
        let log = LogOutput.start(configuration.logLevel)
        try await ServeNode(
            configuration, isWithoutArchive: noArchive, verifiesWAL: verifiesWAL, verifiesContent: verify,
            isInsecure: insecure,
            log: log
        ).run()
    }
}
