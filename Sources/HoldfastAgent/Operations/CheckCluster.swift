import HoldfastBackup
import HoldfastCore
import HoldfastRepository
import HoldfastWire
import Logging

/// `holdfast check`: whether everything that a backup and a restore will need works now: the repository and its
/// exclusive creation, the leader, the way of a WAL segment into the archive and back, the catalog.
package struct CheckCluster: Sendable {
    private let configuration: Configuration
    private let log: Logger
    /// How long a switched segment may take to appear in the archive.
    private static let archivePatienceSeconds = 60.0

    package init(_ configuration: Configuration, log: Logger) {
        self.configuration = configuration
        self.log = log
    }

    private struct Finding {
        var name: String
        /// What was found, or what is wrong.
        var detail: String
        /// `done`, or the status of what is wrong.
        var status: ExitStatus
        var isSound: Bool { status == .done }
    }

    package func run() throws -> Report {
        _ = try configuration.requiredCluster()
        _ = try configuration.requiredRepository()
        var findings: [Finding] = []
        func check<R>(_ name: String, _ body: () throws -> (R, String)) -> R? {
            do {
                let (result, detail) = try body()
                findings.append(Finding(name: name, detail: detail, status: .done))
                return result
            } catch {
                findings.append(Finding(name: name, detail: LogOutput.text(error), status: Self.status(error)))
                return nil
            }
        }
        let identity = check("leader") {
            let connection = try LeaderConnection(to: configuration.leaderServer())
            defer { connection.close() }
            let identity = try connection.identity()
            return (identity, "\(identity.role), timeline \(identity.timeline.rawValue), at \(identity.durableLSN)")
        }
        let repository = check("repository") { () throws -> (Repository, String) in
            let access = ClusterAccess(configuration)
            // Not made here: a check of a wrong path is not to leave a repository there.
            let repository = try access.repository(expecting: identity?.systemIdentifier)
            return (repository, "system identifier \(repository.systemIdentifier)")
        }
        if let repository {
            _ = check("exclusive creation") { ((), try Self.proveExclusiveCreation(repository)) }
            if identity != nil { _ = check("archive") { ((), try archiveRoundTrip(repository)) } }
        }
        if configuration.catalog != nil {
            _ = check("catalog") { () throws -> (Void, String) in
                let report = try CatalogFacts.required(configuration, log: log).status()
                if report.status != .done { throw CheckFailed(text: report.text, status: report.status) }
                return ((), "usable")
            }
        }
        return Self.report(findings)
    }

    private static func status(_ error: any Error) -> ExitStatus {
        (error as? any DiagnosableError)?.diagnosis.status ?? .internalError
    }

    /// A second creation under a name that is taken must be refused, or claims and markers mean nothing.
    private static func proveExclusiveCreation(_ repository: Repository) throws -> String {
        let path = repository.layout.lock("check") / (TimelineToken.random().description + ".json")
        defer { try? repository.store.delete(path) }
        guard try repository.store.create(path, Array("{\"first\":true}\n".utf8)) == .created else {
            throw CheckFailed(text: "an object of a random name was there already")
        }
        guard try repository.store.create(path, Array("{\"second\":true}\n".utf8)) == .different else {
            throw CheckFailed(text: "a second creation of one name was not refused")
        }
        return "a second creation is refused"
    }

    private func archiveRoundTrip(_ repository: Repository) throws -> String {
        let client = try WireClient(to: configuration.leaderServer())
        defer { client.close() }
        let reply = try client.call("WAL", "SWITCH")
        guard let name = reply["segment"]?.text.flatMap({ SegmentName($0) }) else {
            throw WireError.unexpectedReply(command: "WAL SWITCH", "it names no segment")
        }
        let archive = try ClusterAccess(configuration).archive(repository)
        var waited = 0.0
        while try !archive.holds(name) {
            guard waited < Self.archivePatienceSeconds else {
                throw CheckFailed(text: "segment \(name) did not arrive within 60 s: check that holdfast agent runs")
            }
            sleepSeconds(0.1)
            waited += 0.1
        }
        _ = try archive.fetchExisting(name)
        return "segment \(name) went there and back"
    }

    private static func report(_ findings: [Finding]) -> Report {
        var table = TextTable([("CHECK", .left), ("", .left), ("", .left)])
        for finding in findings { table.add([finding.name, finding.isSound ? "ok" : "FAILED", finding.detail]) }
        let problems = findings.filter { !$0.isSound }
        return Report(
            text: table.text,
            json: [
                "ok": .boolean(problems.isEmpty),
                "checks": .array(
                    findings.map {
                        ["name": .string($0.name), "ok": .boolean($0.isSound), "detail": .string($0.detail)]
                    }),
                "problems": .array(
                    problems.map { ["object": .string($0.name), "problem": .string($0.detail)] }),
            ], status: problems.first?.status ?? .done)
    }
}

private struct CheckFailed: DiagnosableError {
    var text: String
    var status = ExitStatus.dataError
    var diagnosis: Diagnosis { Diagnosis(text.replacing("\n", with: " "), status: status) }
}
