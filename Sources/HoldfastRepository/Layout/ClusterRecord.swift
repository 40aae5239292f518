import HoldfastCore

/// `cluster.json`: whose repository this is. Created exclusively by the first agent or backup.
package struct ClusterRecord: RepositoryRecord {
    package var formatVersion = RepositoryLayout.formatVersion
    package var cluster: String
    package var systemIdentifier: SystemIdentifier

    package init(cluster: String, systemIdentifier: SystemIdentifier) {
        self.cluster = cluster
        self.systemIdentifier = systemIdentifier
    }

    enum CodingKeys: String, CodingKey {
        case formatVersion = "format_version"
        case cluster
        case systemIdentifier = "system_identifier"
    }
}
