import Foundation
import HoldfastCore

/// The durable state of a cluster's schedule: `schedule.json` in the agent's state directory.
///
///     {"version": 1, "jobs": {"full": {"schedule": "0 2 * * * UTC", "handled": 1795831200, …}}}
package struct ScheduleFile<D: Disk>: Sendable {
    package static var version: Int { 1 }
    private static var name: String { "schedule.json" }
    private let disk: D

    package enum Failure: DiagnosableError, Equatable {
        case disk(DiskError)
        case newer(path: String, version: Int)
        case damaged(path: String, String)

        package var diagnosis: Diagnosis {
            switch self {
            case .disk(let error): error.diagnosis
            case .newer(let path, let version):
                Diagnosis(
                    "the schedule's state is of a newer format", at: printable(path, limit: 300),
                    why: "version \(version), where this release knows 1", next: "upgrade holdfast", status: .dataError)
            case .damaged(let path, let why):
                Diagnosis(
                    "the schedule's state is damaged", at: printable(path, limit: 300), why: why,
                    next: "remove it: missed runs are then not made up for", status: .dataError)
            }
        }
    }

    private struct Content: Codable {
        var version: Int
        var jobs: [String: JobState]
    }

    private struct Version: Codable { var version: Int }

    package init(_ disk: D) { self.disk = disk }

    /// What is stored; nothing on the first start.
    package func load() throws(Failure) -> [String: JobState] {
        let bytes: [UInt8]
        do throws(DiskError) {
            guard try disk.exists(Self.name) else { return [:] }
            bytes = try disk.readAll(Self.name, limit: 64 << 10)
        } catch {
            throw .disk(error)
        }
        let path = disk.root + "/" + Self.name
        let data = Data(bytes)
        guard let version = try? JSONDecoder().decode(Version.self, from: data).version else {
            throw .damaged(path: path, "it is not the JSON of a schedule")
        }
        guard version <= Self.version else { throw .newer(path: path, version: version) }
        do {
            return try JSONDecoder().decode(Content.self, from: data).jobs
        } catch {
            throw .damaged(path: path, "it is not the JSON of a schedule")
        }
    }

    /// Durable when it returns.
    package func save(_ jobs: [String: JobState]) throws(Failure) {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        let data: Data
        do {
            data = try encoder.encode(Content(version: Self.version, jobs: jobs))
        } catch {
            throw .damaged(path: disk.root + "/" + Self.name, "it cannot be encoded")
        }
        do throws(DiskError) {
            try disk.replaceAtomically(Self.name, with: Array(data))
        } catch {
            throw .disk(error)
        }
    }
}
