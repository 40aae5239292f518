import Glibc
import HoldfastCore
import HoldfastEngine

/// The directory that a restore fills. It belongs to the restore by its lock, and is marked from the first byte
/// on as one that `serve` refuses, until everything in it is whole and durable.
struct TargetDirectory {
    let path: String
    let disk: RealDisk

    /// What a restore makes, and so what a restore that is repeated may remove.
    private static let ownDirectories = ["pages", "wal/archive_status", "wal", "slots"]
    private static let ownFiles = [
        BackupLabel.path, "backup_manifest", RecoverySignal.fileName, "standby.signal", "promote.signal",
        ControlData.path,
    ].flatMap { [$0, $0 + ".tmp"] }

    /// Makes the directory if need be and takes its lock. Refuses, without having changed anything, one that holds
    /// anything but an interrupted restore of the same cluster.
    static func claim(_ path: String, for system: SystemIdentifier) throws -> TargetDirectory {
        if mkdir(path, 0o700) != 0, errno != EEXIST {
            throw DiskError.cannotCreate(path, errno: errno)
        }
        let disk = try RealDisk(root: path)
        try disk.lock()
        // A control file that was being made in an empty directory, and came no further, is nobody's.
        let names = try disk.list("").filter { $0 != ControlData.path + ".tmp" }
        guard !names.isEmpty else { return TargetDirectory(path: path, disk: disk) }
        guard names.contains(ControlData.path) else {
            throw RestoreError.notEmpty(path: path, example: names[0])
        }
        let control: ControlData
        do {
            let file = try ControlFile(opening: disk)
            control = file.current
            file.close()
        } catch EngineError.newerFormat(let what, let version) {
            throw RestoreError.newerFormat(path: path, why: "\(what) has format version \(version)")
        } catch {
            throw RestoreError.notEmpty(path: path, example: ControlData.path)
        }
        guard control.system == system else {
            throw RestoreError.foreign(path: path, found: control.system, expected: system)
        }
        guard control.state == .restoring else { throw RestoreError.existingCluster(path: path) }
        let known = Set(ownFiles + ownDirectories.map { String($0.prefix { $0 != "/" }) })
        if let unknown = names.first(where: { !known.contains($0) }) {
            throw RestoreError.notEmpty(path: path, example: unknown)
        }
        return TargetDirectory(path: path, disk: disk)
    }

    /// Marks the directory as one that is being restored, durably, and removes what an interrupted restore left.
    /// From here until `complete` nothing but the same command may use it.
    func begin(_ control: ControlData) throws {
        // 0700 whatever the umask was when it was made.
        guard chmod(path, 0o700) == 0 else { throw DiskError(operation: "chmod", path: path, errno: errno) }
        try ControlFile.create(on: disk, control).close()
        try syncParent()
        for directory in Self.ownDirectories where try disk.exists(directory) {
            for name in try disk.list(directory) where !Self.ownDirectories.contains(directory + "/" + name) {
                try disk.remove(directory + "/" + name)
            }
            try disk.removeDirectory(directory)
        }
        for file in Self.ownFiles where file != ControlData.path {
            if try disk.exists(file) { try disk.remove(file) }
        }
        for directory in Self.ownDirectories.reversed() { try disk.createDirectory(directory) }
        try disk.syncDirectory("wal")
        try disk.syncDirectory("")
    }

    /// Writes a small file, durable with its name when this returns.
    func write(_ name: String, _ bytes: [UInt8]) throws {
        try disk.replaceAtomically(name, with: bytes)
    }

    /// The last step: everything else is durable, now the control file says so.
    func complete(_ control: ControlData) throws {
        for directory in ["pages", "wal", "wal/archive_status", "slots", ""] { try disk.syncDirectory(directory) }
        try ControlFile.create(on: disk, control).close()
        disk.unlock()
    }

    /// The directory's own name must survive too.
    private func syncParent() throws {
        let end = path.lastIndex(of: "/")
        let parent = end.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
        let disk = try RealDisk(root: parent)
        try disk.syncDirectory("")
    }
}
