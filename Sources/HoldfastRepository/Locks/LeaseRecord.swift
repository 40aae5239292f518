import HoldfastCore

/// `locks/<name>/<number>.json`: that someone holds `<name>` for `leaseSeconds` from this object's time on.
/// A hold is a lease that says which backup, and which WAL, must stay.
package struct LeaseRecord: RepositoryRecord {
    package var formatVersion = RepositoryLayout.formatVersion
    package var name: String
    package var holder: Holder
    package var leaseSeconds: Int
    /// Given back in order: it does not hold from this object on.
    package var released: Bool
    /// What is being done, for people: `backup`, `restore`.
    package var purpose: String?
    /// The backup that must stay.
    package var backup: BackupID?
    /// The WAL that must stay: all from here on.
    package var walFrom: LSN?

    package init(
        name: String, holder: Holder, leaseSeconds: Int, released: Bool = false, purpose: String? = nil,
        backup: BackupID? = nil, walFrom: LSN? = nil
    ) {
        self.name = name
        self.holder = holder
        self.leaseSeconds = leaseSeconds
        self.released = released
        self.purpose = purpose
        self.backup = backup
        self.walFrom = walFrom
    }

    enum CodingKeys: String, CodingKey {
        case formatVersion = "format_version"
        case leaseSeconds = "lease_seconds"
        case walFrom = "wal_from"
        case name, holder, released, purpose, backup
    }
}

/// `locks/cut/<number>.json`: WAL below `lsn` is given up on every timeline. It only rises.
package struct CutRecord: RepositoryRecord {
    package var formatVersion = RepositoryLayout.formatVersion
    package var lsn: LSN

    package init(lsn: LSN) { self.lsn = lsn }

    enum CodingKeys: String, CodingKey {
        case formatVersion = "format_version"
        case lsn
    }
}

/// What is common to all records that work as a lease: `LeaseRecord` and `BackupAnnouncement`.
struct LeaseFacts: RepositoryRecord {
    var formatVersion: Int
    var holder: Holder
    var leaseSeconds: Int
    var released: Bool

    enum CodingKeys: String, CodingKey {
        case formatVersion = "format_version"
        case leaseSeconds = "lease_seconds"
        case holder, released
    }
}
