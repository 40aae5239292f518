import Glibc
import HoldfastArchive
import HoldfastCatalog
import HoldfastCore
import HoldfastEngine
import HoldfastRepository
import HoldfastRestore
import HoldfastWire
import Logging

/// `holdfast restore`: plans, unpacks, and tells the catalog.
package struct RestoreCluster: Sendable {
    package var configuration: Configuration
    package var request: RestoreRequest
    private let log: Logger

    /// Bytes done and in all.
    package var progress: (@Sendable (Int, Int) -> Void)? {
        didSet {
            request.progress = progress.map { progress -> @Sendable (ArchiveProgress) -> Void in
                { progress(Int(clamping: $0.bytes), Int(clamping: $0.totalBytes)) }
            }
        }
    }

    /// Throws when the target contradicts itself; nothing was looked at.
    package init(_ configuration: Configuration, _ choice: TargetChoice, log: Logger) throws {
        self.configuration = configuration
        self.log = log
        request = RestoreRequest(data: WorkingDirectory.absolute(try configuration.requiredData()))
        try choice.apply(to: &request)
    }

    /// The node will follow these leaders, or those of the configuration. Throws for what contradicts that.
    package mutating func follow(
        _ leaders: [String], node: String?, slot: String?, isToBeVerified: Bool = false
    ) throws {
        guard !leaders.isEmpty else {
            guard slot == nil, node == nil, !isToBeVerified else { throw FollowError.withoutLeader }
            return
        }
        guard request.target == .latest, request.action == .promote, !request.isCopy, !request.takesOver else {
            throw FollowError.withTarget
        }
        for leader in leaders { _ = try WireAddress(leader) }
        let name = node ?? Self.nodeName
        for (text, thing) in [(name, "node"), (slot ?? name, "slot")] where !ObjectName.isValid(text) {
            throw FollowError.badName(ObjectName.refusal(text, of: thing))
        }
        request.follower = FollowerOrder(leaders: leaders, node: name, slot: slot)
        request.follower?.isToBeVerified = isToBeVerified
    }

    /// Why a follower cannot be made so.
    enum FollowError: DiagnosableError {
        case withoutLeader
        case withTarget
        case badName(Diagnosis)

        var diagnosis: Diagnosis {
            switch self {
            case .withoutLeader:
                Diagnosis(
                    "--slot, --node and --verify are a follower's", next: "give --follow LEADER, or leave them out",
                    status: .usage)
            case .withTarget:
                Diagnosis(
                    "a follower has no recovery target", why: "it replays everything and goes on",
                    next: "give --follow without target, action, --no-archive and --take-over", status: .usage)
            case .badName(let diagnosis): diagnosis
            }
        }
    }

    /// The host's name, as far as it can be a node's.
    static var nodeName: String {
        let name = String(
            hostName.map { $0.isASCII && ($0.isLetter || $0.isNumber) || ".-_".contains($0) ? $0 : "-" }.prefix(63))
        return ObjectName.isValid(name) ? name : "node"
    }

    /// The command that an operator repeats when this one was interrupted, quoted for a shell.
    package static func repeatable(_ arguments: [String]) -> String {
        (["holdfast"] + arguments.dropFirst()).map { word in
            let isPlain = word.utf8.allSatisfy { byte in
                (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte)
                    || "-_./:=@+,".utf8.contains(byte)
            }
            return isPlain && !word.isEmpty ? word : "'" + word.replacing("'", with: "'\\''") + "'"
        }.joined(separator: " ")
    }

    /// What would be restored; nothing is changed.
    package func plan() throws -> Report {
        let repository = try ClusterAccess(configuration).repository()
        let plan = try RestoreJob(repository, request).plan()
        let text = """
            backup \(plan.backup.id) would be restored to \(printable(request.data, limit: 300))
              target     \(request.target)
              timeline   \(plan.history.timeline.rawValue)
              replay     from \(plan.backup.startLSN), the archive ends at \(plan.archiveEnd)
              size       \(Quantity.bytes(Int(clamping: plan.backup.bytes)))

            """
        return Report(
            text: text,
            json: [
                "backup": .string(plan.backup.id.description), "target": .string(request.target.description),
                "data": .string(request.data), "bytes": .integer(Int64(clamping: plan.backup.bytes)),
                "pages": .integer(Int64(clamping: plan.backup.pages)), "start_lsn": .init(plan.backup.startLSN),
                "timeline": .integer(Int64(plan.history.timeline.rawValue)), "archive_end": .init(plan.archiveEnd),
            ])
    }

    /// When it returns the directory is whole and durable, and `serve` may start on it.
    package func run() throws -> Report {
        let repository = try ClusterAccess(configuration).repository()
        let facts = CatalogFacts.ifUsable(configuration, log: log)
        var report = RestoreReport(backup: request.backup, target: "\(request.target)", outcome: .started)
        report.host = Self.hostName
        report.dataDirectory = request.data
        report.startedAt = CatalogFacts.now
        let job = RestoreJob(repository, request)
        do {
            let result = try job.run()
            report.backup = result.backup.id.description
            report.outcome = .unpacked
            report.targetTimeline = String(result.timeline.rawValue)
            report.bytes = Int64(clamping: result.bytes)
            report.pages = Int64(clamping: result.pages)
            report.finishedAt = CatalogFacts.now
            facts?.add(restore: report)
            log.info(
                "restored",
                metadata: ["backup": "\(result.backup.id)", "data": "\(printable(request.data, limit: 300))"])
            facts?.deliver()
            return Self.report(result, request)
        } catch {
            report.outcome = .failed
            report.finishedAt = CatalogFacts.now
            facts?.add(restore: report)
            throw error
        }
    }

    private static func report(_ result: RestoreResult, _ request: RestoreRequest) -> Report {
        let isCopy = request.isCopy
        let target = request.follower.map { "follow " + $0.leaders.joined(separator: ", ") } ?? "\(result.target)"
        let text = """
            restored backup \(result.backup.id) to \(printable(result.data, limit: 300))
              target     \(target), timeline \(result.timeline.rawValue)
              size       \(Quantity.bytes(Int(clamping: result.bytes)))
              next       holdfast serve --data \(printable(result.data, limit: 300))\(isCopy ? " --no-archive" : "")   \
            (replays from \(result.startLSN))

            """
        return Report(
            text: text,
            json: [
                "backup": .string(result.backup.id.description), "target": .string(result.target.description),
                "data": .string(result.data), "bytes": .integer(Int64(clamping: result.bytes)),
                "pages": .integer(Int64(clamping: result.pages)), "start_lsn": .init(result.startLSN),
                "timeline": .integer(Int64(result.timeline.rawValue)),
            ])
    }

    static var hostName: String {
        var buffer = [CChar](repeating: 0, count: 256)
        guard gethostname(&buffer, buffer.count - 1) == 0 else { return "unknown" }
        return buffer.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
    }
}
