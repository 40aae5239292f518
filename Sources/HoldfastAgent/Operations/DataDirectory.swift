import Glibc
import HoldfastCore
import HoldfastEngine

/// Looks at a data directory from outside.
package enum DataDirectory {
    /// What the control file says now. Nothing is locked: a running server may change it the next moment.
    static func control(_ disk: RealDisk) throws -> ControlData {
        let file = try ControlFile(opening: disk)
        defer { file.close() }
        return file.current
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

    /// `holdfast control`: the control file in words.
    package static func controlReport(_ path: String) throws -> Report {
        let path = WorkingDirectory.absolute(path)
        let control = try control(RealDisk(root: path))
        var fields: [(key: String, value: JSONValue)] = [
            (key: "data", value: .string(path)),
            (key: "state", value: .string(word(control.state))),
            (key: "system_identifier", value: .string(control.system.description)),
            (key: "timeline", value: .integer(Int64(control.timeline.rawValue))),
            (key: "timeline_token", value: .string(control.token.description)),
            (key: "archiving", value: .boolean(control.isArchiving)),
            (key: "checkpoint_lsn", value: .init(control.checkpointLSN)),
            (key: "checkpoint_time", value: time(control.checkpointTime)),
            (key: "redo_lsn", value: .init(control.redo.lsn)),
            (key: "redo_timeline", value: .integer(Int64(control.redo.timeline.rawValue))),
            (key: "known_durable_end", value: .init(control.knownDurableEnd)),
            (key: "greatest_redo_lsn", value: .init(control.greatestRedo)),
            (key: "own_from", value: position(control.ownFrom)),
            (key: "minimum_recovery_point", value: position(control.minimumRecoveryPoint)),
            (key: "last_transaction", value: .integer(Int64(clamping: control.lastTransaction.rawValue))),
            (key: "last_commit_time", value: time(control.lastCommitTime)),
        ]
        if let demand = control.demand {
            fields.append(
                (
                    key: "demanded",
                    value: [
                        "timeline": .integer(Int64(demand.timeline.rawValue)), "start_lsn": .init(demand.start),
                        "stop_lsn": .init(demand.stop),
                    ]
                ))
        }
        if !control.command.isEmpty { fields.append((key: "unfinished_command", value: .string(control.command))) }
        let width = fields.map(\.key.count).max() ?? 0
        let lines = fields.map { field in
            let text: String = if case .string(let text) = field.value { text } else { field.value.text() }
            return field.key + String(repeating: " ", count: width - field.key.count + 2) + terminalSafe(text) + "\n"
        }
        return Report(text: lines.joined(), json: .object(fields))
    }

    private static func word(_ state: ControlData.State) -> String {
        switch state {
        case .stopped: "stopped"
        case .running: "running"
        case .restoring: "restore in progress"
        case .recovering: "recovering"
        }
    }

    private static func time(_ microseconds: Int64) -> JSONValue {
        microseconds == 0 ? .null : .string(Timestamp.text(microseconds: microseconds))
    }

    private static func position(_ position: ControlData.Position?) -> JSONValue {
        position.map { ["timeline": .integer(Int64($0.timeline.rawValue)), "lsn": .init($0.lsn)] } ?? .null
    }
}
