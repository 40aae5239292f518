import Foundation
import HoldfastCore

/// Something that happened, as the outbox keeps it: which object to look at, not what to write.
///
/// File format, version 1: one JSON object, keys in snake_case, `version` first to be judged; at most `maximumBytes`.
///
///     {"version":1, "id":UUID, "kind":"backup", "cluster":"main", "object":"20261123T021500Z-full",
///      "occurred_at":microseconds since 1970 UTC, "detail":{"key":"text"}, "node":{…}?, "restore":{…}?}
package struct Fact: Sendable, Equatable, Codable {
    package static let version = 1
    package static let maximumBytes = 16_384

    package enum Kind: String, Sendable, Codable, CaseIterable {
        /// `object`: the cluster's name.
        case cluster
        /// `object`: the backup's id.
        case backup
        /// `object`: the timeline, eight hex digits; its WAL or its history changed.
        case timeline
        /// `object`: the node's name; what it reported travels in the fact.
        case node
        /// `object`: the backup's id or the cluster's name; what was done travels in the fact.
        case restore

        /// The fact holds nothing but the name of what to look at, so that two of one object are as good as one.
        var mayCoalesce: Bool { self == .timeline }
    }

    package let version: Int
    package let id: UUID
    package let kind: Kind
    package let cluster: String
    package let object: String
    package let occurredAt: CatalogTime
    /// For the `event` row: short texts, control characters escaped.
    package let detail: [String: String]
    package let node: NodeReport?
    package let restore: RestoreReport?

    /// - Throws: `CatalogError.name` before any I/O when a name may not be one.
    package init(
        kind: Kind, cluster: String, object: String, occurredAt: CatalogTime, detail: [String: String] = [:],
        id: UUID = UUID()
    ) throws(CatalogError) {
        try self.init(kind, cluster, object, occurredAt, detail, id, nil, nil)
    }

    /// A node's report of itself.
    package init(
        cluster: String, node name: String, _ report: NodeReport, occurredAt: CatalogTime
    ) throws(CatalogError) {
        try self.init(.node, cluster, name, occurredAt, [:], UUID(), report.storable, nil)
    }

    /// A restore, begun or ended. Reports of one restore bear one `report.id`.
    package init(cluster: String, restore report: RestoreReport, occurredAt: CatalogTime) throws(CatalogError) {
        try self.init(.restore, cluster, report.backup ?? cluster, occurredAt, [:], UUID(), nil, report.storable)
    }

    private init(
        _ kind: Kind, _ cluster: String, _ object: String, _ occurredAt: CatalogTime, _ detail: [String: String],
        _ id: UUID, _ node: NodeReport?, _ restore: RestoreReport?
    ) throws(CatalogError) {
        version = Self.version
        self.id = id
        self.kind = kind
        self.cluster = cluster
        self.object = object
        self.occurredAt = occurredAt
        self.detail = detail.mapValues { storable($0, limit: 500) }
        self.node = node
        self.restore = restore
        try checkNames()
        precondition(detail.count <= 16, "detail is for a few short texts")
    }

    private func checkNames() throws(CatalogError) {
        guard ObjectName.isValid(cluster) else { throw .name(ObjectName.refusal(cluster, of: "cluster")) }
        guard ObjectName.isValid(object) else { throw .name(ObjectName.refusal(object, of: kind.rawValue)) }
        if kind == .timeline, TimelineID(name: object) == nil {
            throw .name(ObjectName.refusal(object, of: "timeline"))
        }
    }

    private enum CodingKeys: String, CodingKey {
        case version, id, kind, cluster, object
        case occurredAt = "occurred_at"
        case detail, node, restore
    }

    // MARK: file format

    func encoded() -> Data {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        // Texts, integers and UUIDs: nothing here that JSON cannot hold.
        return try! encoder.encode(self)
    }

    /// `nil` for what is not a fact; `.newerFact` for one of a newer version.
    static func decode(_ data: Data, path: String) throws(CatalogError) -> Fact? {
        struct Version: Decodable { let version: Int }
        let decoder = JSONDecoder()
        guard data.count <= maximumBytes, let head = try? decoder.decode(Version.self, from: data) else { return nil }
        guard head.version <= version else { throw .newerFact(path: path, version: head.version) }
        guard head.version == version, let fact = try? decoder.decode(Fact.self, from: data),
            (try? fact.checkNames()) != nil
        else { return nil }
        return fact
    }
}

/// What a node says of itself.
package struct NodeReport: Sendable, Equatable, Codable {
    package enum Role: String, Sendable, Codable { case leader, follower, stopped }
    package var role: Role
    package var address: String?
    package var dataDirectory: String?
    package var timeline: UInt32?
    /// As `LSN.description`.
    package var lsn: String?

    package init(
        role: Role, address: String? = nil, dataDirectory: String? = nil, timeline: TimelineID? = nil, lsn: LSN? = nil
    ) {
        self.role = role
        self.address = address
        self.dataDirectory = dataDirectory
        self.timeline = timeline?.rawValue
        self.lsn = lsn?.description
    }

    var storable: Self {
        var copy = self
        copy.address = address.map { HoldfastCatalog.storable($0, limit: 300) }
        copy.dataDirectory = dataDirectory.map { HoldfastCatalog.storable($0, limit: 1000) }
        return copy
    }

    private enum CodingKeys: String, CodingKey {
        case role, address, timeline, lsn
        case dataDirectory = "data_directory"
    }
}

/// What a restore did.
package struct RestoreReport: Sendable, Equatable, Codable {
    package enum Outcome: String, Sendable, Codable { case started, unpacked, recovered, failed }
    /// The same in all reports of one restore.
    package var id: UUID
    package var backup: String?
    /// As a person would read it: `time 2026-11-24T02:00:00Z exclusive`.
    package var target: String
    package var targetTimeline: String?
    package var host: String?
    package var dataDirectory: String?
    package var outcome: Outcome
    package var startedAt: CatalogTime?
    package var finishedAt: CatalogTime?
    package var bytes: Int64?
    package var pages: Int64?

    package init(id: UUID = UUID(), backup: String?, target: String, outcome: Outcome) {
        self.id = id
        self.backup = backup
        self.target = target
        self.outcome = outcome
    }

    var storable: Self {
        var copy = self
        copy.target = HoldfastCatalog.storable(target, limit: 300)
        copy.targetTimeline = targetTimeline.map { HoldfastCatalog.storable($0, limit: 80) }
        copy.host = host.map { HoldfastCatalog.storable($0, limit: 300) }
        copy.dataDirectory = dataDirectory.map { HoldfastCatalog.storable($0, limit: 1000) }
        return copy
    }

    private enum CodingKeys: String, CodingKey {
        case id, backup, target, host, outcome, bytes, pages
        case targetTimeline = "target_timeline"
        case dataDirectory = "data_directory"
        case startedAt = "started_at"
        case finishedAt = "finished_at"
    }
}

/// Free text as it may stand in a row that people select: control characters escaped, cut at `limit`.
func storable(_ text: String, limit: Int) -> String {
    var out = ""
    for (count, scalar) in text.unicodeScalars.enumerated() {
        if count == limit { return out + "…" }
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .privateUse:
            out += "\\u{" + String(scalar.value, radix: 16) + "}"
        default: out.unicodeScalars.append(scalar)
        }
    }
    return out
}
