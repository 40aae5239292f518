import Glibc
import HoldfastCore
import HoldfastEngine

/// Looks at a data directory from outside.
package enum DataDirectory {
    /// What the control file says now. Nothing is locked: a running server may change it the next moment.
    static func control(_ disk: RealDisk) throws -> ControlData {
        try ControlSlots(of: disk).current()
    }

    static func exists(_ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0
    }

    package static func isDirectory(_ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }

    /// `holdfast init`: makes the directory, mode 0700, and a new cluster in it.
    package static func initialize(_ path: String) throws -> Report {
        let path = WorkingDirectory.absolute(path)
        let isMade = mkdir(path, 0o700) == 0
        if !isMade && errno != EEXIST {
            throw DiskError.cannotCreate(path, errno: errno)
        }
        let disk = try RealDisk(root: path)
        let system = try Engine.initialize(disk, options: InitializeOptions())
        // Private whatever the umask was, and whoever made the directory.
        guard chmod(path, 0o700) == 0 else { throw DiskError(operation: "chmod", path: path, errno: errno) }
        if isMade {
            let parent = directoryPart(path)
            try RealDisk(root: parent.isEmpty ? "/" : parent).syncDirectory("")
        }
        return Report(
            text: "new cluster in \(printable(path, limit: 300)), system identifier \(system)\n",
            json: ["data": .string(path), "system_identifier": .string(system.description)])
    }
}
