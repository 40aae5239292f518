import HoldfastCore

/// Remembers, durably, in which repositories this host's part of the cluster was seen: the file `repository` in the
/// cluster's state directory, a line `SYSTEM-IDENTIFIER PATH` for each. An empty mount point looks like a new
/// repository; this tells the two apart.
struct KnownRepository {
    private let disk: RealDisk
    private let line: String
    private static let name = "repository"

    init(_ configuration: Configuration, _ system: SystemIdentifier) throws {
        disk = try RealDisk(root: AgentState.directory(configuration))
        line = "\(system) \(try configuration.requiredRepository().path)\n"
    }

    var path: String { disk.root + "/" + Self.name }

    private func content() throws(DiskError) -> String {
        guard try disk.exists(Self.name) else { return "" }
        return String(decoding: try disk.readAll(Self.name, limit: 1 << 20), as: UTF8.self)
    }

    var isNoted: Bool {
        get throws(DiskError) { try content().split(separator: "\n").contains(Substring(line.dropLast())) }
    }

    /// Durable when it returns. Two that note at once may lose one note, which the next opening makes again.
    func note() throws(DiskError) { try disk.replaceAtomically(Self.name, with: Array((try content() + line).utf8)) }
}
