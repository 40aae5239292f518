import Foundation
@testable import HoldfastAgent
import HoldfastCore
import HoldfastServer
import HoldfastTestSupport
import HoldfastWire
import Testing

/// Loads `yaml` as a file with mode 0600 and returns the configuration.
private func load(
    _ yaml: String, environment: [String: String] = [:], options: [String: (option: String, text: String)] = [:],
    mode: Int = 0o600
) throws -> Configuration {
    let directory = try TemporaryDirectory()
    let path = directory.path + "/h.yaml"
    try Data(yaml.utf8).write(to: URL(filePath: path))
    try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: path)
    return try Configuration.load(file: path, environment: environment, options: options)
}

/// The message that refuses `yaml`, with the file's path written as `FILE`.
private func refusal(
    _ yaml: String, environment: [String: String] = [:], options: [String: (option: String, text: String)] = [:],
    mode: Int = 0o600
) -> String {
    do {
        let configuration = try load(yaml, environment: environment, options: options, mode: mode)
        return "accepted: \(configuration)"
    } catch let error as ConfigurationError {
        #expect(error.diagnosis.status == .configuration)
        return error.description.replacing(/\/[^ ():]*\/h\.yaml/, with: "FILE")
    } catch {
        return "\(error)"
    }
}

@Suite("The configuration is read whole, and says exactly what it means")
struct ConfigurationTests {
    @Test("a file with every key of this release is read")
    func everyKey() throws {
        let configuration = try load(
            """
            cluster: main
            data: /var/lib/holdfast/main
            leader: unix:/run/holdfast/main.sock
            state: /var/lib/holdfast/state
            log: debug
            server: {listen: "127.0.0.1:6421", socket: /run/holdfast/main.sock, cache: 2GiB, versions: 64MiB,
                     transaction: 32MiB, checkpoint: {wal: 512MiB, every: 90s}, max_slot_wal: 2GiB, users_file: /etc/holdfast/users,
                     require_user: true,
                     tls: {cert_file: /c, key_file: /k, ca_file: /a, client_certificates: required}}
            client: {tls: true, ca_file: /a, cert_file: /cc, key_file: /ck, user: follower, password_file: /p}
            repository:
              path: /var/backups/holdfast
              compression: {codec: gzip, level: 6, workers: 3}
            catalog: {uri: "postgresql://holdfast_agent@db.example/holdfast", password_file: /etc/holdfast/catalog.pw}
            archive: {timeout: 30s, workers: 4, queue_max: none, stream: off}
            schedule: {timezone: Europe/Berlin, full: "0 2 * * 0"}
            synchronous: {min_followers: 2, level: applied, timeout: 1500ms, on_timeout: degrade}
            """)
        #expect(configuration.cluster == "main")
        #expect(configuration.data == "/var/lib/holdfast/main")
        #expect(configuration.leader == .unix(path: "/run/holdfast/main.sock"))
        #expect(configuration.state == "/var/lib/holdfast/state")
        #expect(configuration.logLevel == .debug)
        #expect(configuration.synchronous.minimumFollowers == 2 && configuration.synchronous.level == .applied)
        #expect(configuration.synchronous.timeoutSeconds == 1.5 && configuration.synchronous.onTimeout == .degrade)
        var server = ServerSettings()
        server.listen = .tcp(host: "127.0.0.1", port: 6421)
        server.socket = "/run/holdfast/main.sock"
        server.cacheBytes = 2 << 30
        server.versionBytes = 64 << 20
        server.transactionBytes = 32 << 20
        server.checkpointWALBytes = 512 << 20
        server.checkpointEvery = 90_000
        server.slotWALBytes = 2 << 30
        server.usersFile = "/etc/holdfast/users"
        server.requiresUser = true
        server.tls = TLSFiles(certificate: "/c", key: "/k", authorities: "/a", clientCertificates: .required)
        #expect(configuration.server == server)
        var client = ClientSettings()
        client.usesTLS = true
        (client.authorities, client.certificate, client.key) = ("/a", "/cc", "/ck")
        (client.user, client.passwordFile) = ("follower", "/p")
        #expect(configuration.client == client)
        let repository = try #require(configuration.repositories.first)
        #expect(configuration.repositories.count == 1)
        #expect(repository.path == "/var/backups/holdfast")
        #expect((repository.codec, repository.level, repository.workers) == (.gzip, 6, 3))
        #expect(configuration.catalog?.uri == "postgresql://holdfast_agent@db.example/holdfast")
        #expect(configuration.catalog?.passwordFile == "/etc/holdfast/catalog.pw")
        #expect(
            configuration.archive
                == {
                    var a = ArchiveSettings(); a.timeout = 30_000; a.workers = 4; return a
                }())
        #expect(configuration.schedule.full?.description == "0 2 * * 0")
        #expect(configuration.schedule.timeZone == "Europe/Berlin")
    }

    @Test("an empty file is the defaults")
    func defaults() throws {
        let configuration = try load("# nothing\n", environment: ["HOME": "/home/h", "STATE_DIRECTORY": "/var/s"])
        #expect(configuration.state == "/var/s")
        #expect(configuration.server == ServerSettings())
        #expect(configuration.archive.timeout == 60_000)
        #expect(configuration.repositories.isEmpty)
        #expect(configuration.catalog == nil)
    }

    @Test("repositories may be a list; a second one is refused by name until it is used")
    func repositories() throws {
        let configuration = try load("repositories:\n  - {name: here, path: /a}")
        #expect(configuration.repositories.map(\.name) == ["here"])
        #expect(try configuration.requiredRepository().path == "/a")
        let error = #expect(throws: ConfigurationError.self) {
            try load("repositories:\n  - {name: here, path: /a}\n  - {name: there, path: /b}")
        }
        #expect(error?.description.contains("a second repository") == true)
    }

    @Test("an option goes before the environment, that before the file, that before the default")
    func precedence() throws {
        let yaml = "archive: {timeout: 10s, workers: 3}\nserver: {cache: 1GiB}"
        let environment = ["HOLDFAST_ARCHIVE__TIMEOUT": "20s", "HOLDFAST_SERVER__CACHE": "2GiB"]
        let configuration = try load(
            yaml, environment: environment, options: ["server.cache": (option: "--cache", text: "3GiB")])
        #expect(configuration.archive.timeout == 20_000)
        #expect(configuration.archive.workers == 3)
        #expect(configuration.server.cacheBytes == 3 << 30)
    }

    @Test("the environment alone makes a configuration, lists as JSON")
    func environmentAlone() throws {
        let configuration = try load(
            "",
            environment: [
                "HOLDFAST_CLUSTER": "main", "HOLDFAST_CATALOG__URI": "service=holdfast",
                "HOLDFAST_REPOSITORIES": #"[{"name": "a", "path": "/a", "compression": {"level": 3}}]"#,
            ])
        #expect(configuration.cluster == "main")
        #expect(configuration.catalog?.uri == "service=holdfast")
        #expect(configuration.repositories.map(\.level) == [3])
    }

    @Test("a directory is one configuration for each file, and each cluster once")
    func directory() throws {
        let directory = try TemporaryDirectory()
        for (name, cluster) in [("b.yaml", "two"), ("a.yaml", "one"), ("notes.txt", "not YAML: [")] {
            try Data("cluster: \(cluster)\n".utf8).write(to: URL(filePath: directory.path + "/" + name))
        }
        #expect(
            try Configuration.loadAll(directory: directory.path, environment: [:]).map(\.cluster) == ["one", "two"])
        try Data("cluster: two\n".utf8).write(to: URL(filePath: directory.path + "/c.yaml"))
        #expect(throws: ConfigurationError.self) {
            try Configuration.loadAll(directory: directory.path, environment: [:])
        }
    }

    @Test("an alias is read as what it stands for")
    func alias() throws {
        let configuration = try load("cluster: &name main\nserver: {socket: /s}\nlog: info\n")
        #expect(configuration.cluster == "main")
    }
}

@Suite("A configuration that is wrong anywhere starts nothing, and names the line")
struct ConfigurationRefusalTests {
    @Test("an unknown key is named with its line and what was meant")
    func unknownKeys() {
        #expect(
            refusal("cluster: main\narchive:\n  timout: 60s\n")
                == "unknown key \"archive.timout\" (FILE:3)\nhint: did you mean \"archive.timeout\"?")
        #expect(refusal("wibble: 1\n") == "unknown key \"wibble\" (FILE:1)\nhint: remove it")
        #expect(
            refusal("repository:\n  pth: /a\n")
                == "unknown key \"repository.pth\" (FILE:2)\nhint: did you mean \"repository.path\"?")
        #expect(
            refusal("repositories:\n  - name: a\n    path: /a\n    wal: 1\n")
                == "unknown key \"repositories[0].wal\" (FILE:4)\nhint: remove it")
        #expect(
            refusal("", environment: ["HOLDFAST_ARCHIVE__TIMOUT": "1s"])
                == "unknown key \"HOLDFAST_ARCHIVE__TIMOUT\" (the environment)\nhint: did you mean \"HOLDFAST_ARCHIVE__TIMEOUT\"?"
        )
        #expect(
            refusal("", environment: ["HOLDFAST_CLUSTRE": "main"])
                == "unknown key \"HOLDFAST_CLUSTRE\" (the environment)\nhint: did you mean \"HOLDFAST_CLUSTER\"?")
    }

    @Test(
        "a value of the wrong kind or out of range is named with its line",
        arguments: [
            (
                "archive:\n  timeout: 60\n",
                "archive.timeout cannot be used (FILE:2): \"60\" is not a duration from 1s to 30d, or none\nhint: correct it"
            ),
            (
                "server: {cache: 1GB}\n",
                "server.cache cannot be used (FILE:1): \"1GB\" is not a size from 1MiB to 64TiB, with KiB, MiB, GiB or TiB\nhint: correct it"
            ),
            (
                "archive: {workers: 0}\n",
                "archive.workers cannot be used (FILE:1): \"0\" is not a number from 1 to 64\nhint: correct it"
            ),
            (
                "archive: {workers: [1]}\n",
                "archive.workers cannot be used (FILE:1): it is not a single value\nhint: write workers: VALUE"
            ),
            ("server: 7\n", "server cannot be used (FILE:1): it is not a map\nhint: write it as key: value lines"),
            ("- a\n", "the configuration cannot be used (FILE:1): it is not a map\nhint: write it as key: value lines"),
            (
                "cluster: \"../etc\"\n",
                "cluster cannot be used (FILE:1): a name is 1 to 63 letters, digits, dots, underscores and hyphens, and begins with a letter or digit\nhint: choose another name"
            ),
            (
                "data: data\n",
                "data cannot be used (FILE:1): \"data\" is not an absolute path\nhint: begin it with a slash"
            ),
            (
                "server:\n  tls: {cert_file: /c}\n",
                "server.tls cannot be used (FILE:2): it needs cert_file and key_file\nhint: give both"
            ),
            (
                "server:\n  tls:\n    cert_file: /c\n    key_file: /k\n    client_certificates: required\n",
                "server.tls.client_certificates cannot be used (FILE:5): there is nothing to check them with\nhint: give ca_file too"
            ),
            (
                "client: {user: a}\n",
                "client.user cannot be used (FILE:1): a user and a password go together\nhint: give user and password_file"
            ),
            (
                "client: {key_file: /k}\n",
                "client.key_file cannot be used (FILE:1): a certificate and its key go together\nhint: give cert_file and key_file"
            ),
            ("leader: nowhere\n", "leader cannot be used (FILE:1): it has no port\nhint: give HOST:PORT or unix:PATH"),
            (
                "repository: {compression: {level: 1}}\n",
                "repository cannot be used (FILE:1): it has no path\nhint: give path: DIR"
            ),
            (
                "repository:\n  path: /a\n  compression:\n    codec: lzma\n",
                "repository.compression.codec cannot be used (FILE:4): \"lzma\" is not zstd, gzip or none\nhint: correct it"
            ),
            (
                "schedule: {timezone: Mars/Olympus}\n",
                "schedule.timezone cannot be used (FILE:1): \"Mars/Olympus\" is not a time zone such as Europe/Berlin or UTC\nhint: correct it"
            ),
            (
                "schedule:\n  full: 0 2 * *\n",
                "schedule.full cannot be used (FILE:2): it has 4 fields where 5 are expected\nhint: write minute hour day month weekday, as in \"0 2 * * *\""
            ),
            (
                "schedule: {full: \"0 0 31 2,4 *\"}\n",
                "schedule.full cannot be used (FILE:1): no year has such a day\nhint: write minute hour day month weekday, as in \"0 2 * * *\""
            ),
            ("a: 1\na: 2\n", "key \"a\" is given twice (FILE:1)\nhint: keep one of the two"),
            (
                "catalog: {password_file: /p}\n",
                "catalog cannot be used (FILE:1): it has no uri\nhint: give uri: \"postgresql://USER@HOST/DATABASE\""
            ),
        ])
    func badValues(yaml: String, message: String) {
        #expect(refusal(yaml) == message)
    }

    @Test(
        "what this release cannot do is refused by name",
        arguments: [
            ("repository: {path: /a, s3: {bucket: b}}", "repository.s3"),
            ("repository: {path: /a, encryption: {recipients: []}}", "repository.encryption"),
            ("repository: {path: /a, signing: {key_file: /k}}", "repository.signing"),
            ("http: {listen: \"127.0.0.1:6421\"}", "http"), ("retention: {full: 4}", "retention"),
            ("schedule: {incr: \"0 2 * * *\"}", "schedule.incr"),
            ("schedule: {verify: \"0 5 * * *\"}", "schedule.verify"),
            ("archive: {stream: true}", "archive.stream"),
            ("archive: {queue_max: 1GiB}", "archive.queue_max other than none"),
        ])
    func notSupported(yaml: String, key: String) {
        #expect(refusal(yaml) == "\(key) is not supported yet by this release (FILE:1)\nhint: remove it")
    }

    @Test("what this release cannot do is refused in the environment too")
    func notSupportedInTheEnvironment() {
        #expect(
            refusal("", environment: ["HOLDFAST_HTTP__LISTEN": "127.0.0.1:1"])
                == "http is not supported yet by this release (HOLDFAST_HTTP__LISTEN)\nhint: remove it"
        )
    }

    @Test("failover is read with its twins, and checked whole")
    func failover() throws {
        let file = try load(
            "failover: {etcd: [\"http://a:2379\", \"http://b:2379\"], ttl: 3s, max_lag: none, node: n1}")
        var expected = FailoverSettings(etcd: ["http://a:2379", "http://b:2379"])
        (expected.ttl, expected.maximumLag, expected.node) = (3000, nil, "n1")
        #expect(file.failover == expected)
        let twin = try load(
            "", environment: ["HOLDFAST_FAILOVER__ETCD": "[\"http://a:2379\"]", "HOLDFAST_FAILOVER__MAX_LAG": "1KiB"])
        #expect(twin.failover?.maximumLag == 1024)
        #expect(twin.failover?.ttl == 10_000)
        #expect(try load("").failover == nil)
        #expect(refusal("failover: {ttl: 10s}").contains("it names no member of etcd"))
        #expect(refusal("failover: {etcd: [\"ftp://a:2379\"]}").contains("give https://HOST:PORT or http://HOST:PORT"))
        #expect(refusal("failover: {etcd: [\"http://a:2379\"], ttl: 1s}").contains("failover.ttl"))
        // The leader counts a follower by the name that it has in etcd.
        #expect(try file.failover?.ownNode(host: "h") == "n1")
        #expect(try twin.failover?.ownNode(host: "host-1.example") == "host-1.example")
        #expect { try twin.failover?.ownNode(host: String(repeating: "h", count: 64)) } throws: { error in
            (error as? ConfigurationError)?.diagnosis.description.contains("give failover: {node: NAME}") == true
        }
    }

    @Test("how etcd is reached over TLS is checked whole: pairs, a use for every file, no password in clear text")
    func failoverOverTLS() throws {
        let whole = try load(
            """
            failover: {etcd: ["https://a:2379"], ca_file: /ca, cert_file: /c, key_file: /k, user: hf, password_file: /p}
            """)
        var expected = FailoverSettings(etcd: ["https://a:2379"])
        (expected.authorities, expected.certificate, expected.key) = ("/ca", "/c", "/k")
        (expected.user, expected.passwordFile) = ("hf", "/p")
        #expect(whole.failover == expected)
        for (text, why) in [
            ("\"https://a:1\"], cert_file: /c", "failover.cert_file cannot be used"),
            ("\"https://a:1\"], key_file: /c", "a certificate and its key go together"),
            ("\"https://a:1\"], user: hf", "a user and a password go together"),
            ("\"http://a:1\"], ca_file: /c", "no member of etcd is reached over TLS"),
            ("\"https://a:1\", \"http://b:1\"], user: hf, password_file: /p", "to http://b:1 in clear text"),
        ] {
            #expect(refusal("failover: {etcd: [\(text)}").contains(why), "\(text)")
        }
        #expect(
            try load("failover: {etcd: [\"http://127.0.0.1:1\"], user: hf, password_file: /p}").failover?.user == "hf")
    }

    @Test("an option's bad value names the option")
    func badOption() {
        #expect(
            refusal("", options: ["server.listen": (option: "--listen", text: "10.0.0.1")])
                == "server.listen cannot be used (--listen): it has no port\nhint: give HOST:PORT or unix:PATH")
    }

    @Test("what is not YAML is named with its line")
    func notYAML() {
        #expect(refusal("cluster: main\nserver: {listen: a\n").hasPrefix("this is not YAML (FILE:3): "))
        #expect(refusal("cluster: \u{1B}[31m\n").hasPrefix("this is not YAML (FILE:1): "))
    }

    @Test("S8: deep, large and self-multiplying YAML is refused within bounds")
    func bombs() {
        let laughs = (1...40).map { "a\($0): &a\($0) [*a\($0 - 1),*a\($0 - 1)]\n" }.joined()
        #expect(
            refusal("a0: &a0 x\n" + laughs)
                == "the configuration is refused (FILE:10): it has more than 16 aliases\nhint: write it plainly")
        let fewer = (1...8).map { "a\($0): &a\($0) [*a\($0 - 1),*a\($0 - 1)]\n" }.joined()
        #expect(refusal("a0: &a0 x\n" + fewer).contains("unknown key \"a0\""))
        #expect(refusal("a: " + String(repeating: "[", count: 2000)).contains("this is not YAML"))
        #expect(
            refusal("a: " + String(repeating: "[", count: 17) + String(repeating: "]", count: 17))
                .contains("it is nested deeper than 16"))
        #expect(refusal("a: " + String(repeating: "x", count: 5000)).contains("a line has more than 4096 bytes"))
        #expect(
            refusal(String(repeating: "# comment\n", count: 30_000)).contains("bytes where at most 262144 are allowed"))
        #expect(
            refusal("a:\n" + String(repeating: " - x\n", count: 5000)).contains("it has more than 4096 values"))
    }

    @Test("S3: names with slashes, terminal escapes and great length are refused and not printed raw")
    func names() {
        for name in ["a/b", "..", ".hidden", "a\\nb", "\\e[31m", String(repeating: "x", count: 64), "é"] {
            let message = refusal("cluster: \"\(name)\"\n")
            #expect(message.hasPrefix("cluster cannot be used (FILE:1): "))
            #expect(message.unicodeScalars.allSatisfy { $0 == "\n" || (" "..."~").contains($0) })
        }
        let message = refusal("\"\\e[31mred\": 1\n")
        #expect(message == "unknown key \"\\u{1b}[31mred\" (FILE:1)\nhint: remove it")
    }

    @Test("S11: a password in a file that others may read is refused; S4: and not printed")
    func exposedPassword() throws {
        let yaml = "catalog: {uri: \"postgresql://agent:canary@db/holdfast\"}\n"
        #expect(
            refusal(yaml, mode: 0o644)
                == "catalog.uri holds a password that is not safe (FILE): other users may read it (mode 644)\nhint: chmod 600 the file and change the password, or give it as password_file"
        )
        #expect(try load(yaml, mode: 0o600).catalog != nil)
        #expect(try load("catalog: {uri: \"postgresql://agent@db/holdfast\"}\n", mode: 0o644).catalog != nil)
        #expect(!refusal("catalog: {uri: \"postgresql://a:canary@db\", wibble: 1}\n").contains("canary"))
    }

    @Test("a file that was named and is not there is refused; the default file may be absent")
    func absence() throws {
        #expect(throws: ConfigurationError.cannotRead(path: "/nonexistent/h.yaml", .noEntry)) {
            try Configuration.load(file: "/nonexistent/h.yaml", environment: [:])
        }
        #expect(throws: ConfigurationError.cannotRead(path: "/nonexistent/e.yaml", .noEntry)) {
            try Configuration.load(environment: ["HOLDFAST_CONFIG": "/nonexistent/e.yaml"])
        }
    }
}

@Suite("Sizes and durations are written with units")
struct QuantitiesTests {
    @Test("sizes")
    func sizes() {
        #expect(Quantities.bytes("512KiB") == 512 << 10)
        #expect(Quantities.bytes("2TiB") == 2 << 40)
        for bad in ["", "1", "KiB", "1KB", "-1KiB", "1.5GiB", "9999999999TiB", "99999999999999999999KiB", "１KiB"] {
            #expect(Quantities.bytes(bad) == nil, "\(bad)")
        }
    }

    @Test("durations")
    func durations() {
        #expect(Quantities.milliseconds("100ms") == 100)
        #expect(Quantities.milliseconds("60s") == 60_000)
        #expect(Quantities.milliseconds("5m") == 300_000)
        #expect(Quantities.milliseconds("30d") == 2_592_000_000)
        for bad in ["", "60", "ms", "1 s", "1w", "-1s"] { #expect(Quantities.milliseconds(bad) == nil, "\(bad)") }
    }
}
