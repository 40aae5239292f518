import HoldfastCore

/// Makes a data directory trustworthy before it is read: after a failed sync, or a kill, the page cache may show bytes
/// that never reached the disk. So every file is synced, its cached pages are dropped, and what is read then comes
/// from the disk, before anything new is written.
package struct TrustedDirectory<D: Disk> {
    package static var directories: [String] { ["wal", marks, "pages", "slots"] }
    private static var marks: String { "wal/archive_status" }

    let disk: D
    package init(_ disk: D) { self.disk = disk }

    /// Syncs everything that recovery reads. A failed sync throws: nothing here may be trusted by this process.
    package func establish() throws(DiskError) {
        for name in try disk.list("") where Self.isOurs(name) { try settle(name) }
        for directory in Self.directories where try disk.exists(directory) {
            for name in try disk.list(directory) {
                let path = directory + "/" + name
                if Self.directories.contains(path) { continue }
                do throws(DiskError) {
                    try settle(path)
                } catch {
                    // An archiver that runs beside this renames marks at any time. They are empty: all that they say is
                    // their name, which the directory's sync covers.
                    guard directory == Self.marks, error.code == .noEntry else { throw error }
                }
            }
            if !planted(.noSyncAtRecovery) { try disk.syncDirectory(directory) }
        }
        if !planted(.noSyncAtRecovery) { try disk.syncDirectory("") }
    }

    private func settle(_ path: String) throws(DiskError) {
        let file = try disk.open(path, .read)
        defer { file.close() }
        if !planted(.noSyncAtRecovery) { try file.sync() }
        if !planted(.trustCachedPages) { file.dropCache() }
    }

    /// Files of the root that recovery reads or replaces.
    private static func isOurs(_ name: String) -> Bool {
        name == ControlData.path || name == BackupLabel.path || name.hasSuffix(".signal")
    }
}
