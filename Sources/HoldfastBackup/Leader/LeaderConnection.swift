import HoldfastCore
import HoldfastWire

/// The physical commands of a leader, or of a follower that is copied in its place, as a backup uses them. The backup belongs
/// to this connection: when it is dropped, for whatever reason, the server forgets the backup.
package final class LeaderConnection {
    /// What `BACKUP START` answered.
    package struct Start: Sendable, Equatable {
        package var startLSN: LSN
        package var timeline: TimelineID
        package var token: TimelineToken
        package var systemIdentifier: SystemIdentifier
        package var checkpointLSN: LSN
        package var startedAt: Timestamp
    }

    /// What `BACKUP STOP` answered.
    package struct Stop: Sendable, Equatable {
        package var stopLSN: LSN
        package var stoppedAt: Timestamp
        /// Of a follower's backup: the CRC of the record that ends at `stopLSN`. A leader's ends with a record of its own.
        package var stopCRC: UInt32?
        package var lastSegment: SegmentName
        package var lastTransaction: TransactionID
        /// `backup_label`, whole.
        package var label: [UInt8]
    }

    package struct File: Sendable, Equatable {
        /// Below the data directory.
        package var path: String
        package var bytes: UInt64
    }

    /// Who the server is.
    package struct Identity: Sendable, Equatable {
        package var systemIdentifier: SystemIdentifier
        package var timeline: TimelineID
        package var role: String
        /// The absolute path of its data directory on its own host.
        package var data: String
        /// Which directory that is on its host; 0 when it does not say.
        package var device: Int64
        package var inode: Int64
        package var durableLSN: LSN
        package var isArchiving: Bool
    }

    /// A START waits for its checkpoint; on a busy leader with a paced one that may take minutes.
    let client: WireClient
    var address: WireAddress { client.address }

    /// - Parameter replySeconds: how long an answer may take that is no checkpoint.
    package init(to server: WireServer, replySeconds: Double = 60) throws {
        var options = WireClient.Options()
        options.replySeconds = replySeconds
        client = try WireClient(to: server, options: options)
    }

    package func identity() throws -> Identity {
        let reply = try client.call("STATUS")
        return Identity(
            systemIdentifier: try field(reply, "system_identifier", SystemIdentifier.init),
            timeline: try timeline(reply), role: try text(reply, "role"), data: try text(reply, "data"),
            device: reply["data_device"]?.integer ?? 0, inode: reply["data_inode"]?.integer ?? 0,
            durableLSN: try field(reply, "lsn", LSN.init), isArchiving: try flag(reply, "archiving"))
    }

    /// Returns when the start's checkpoint has completed and the segment of its redo point is switched out; a follower takes
    /// a restartpoint instead.
    package func startBackup(label: String, isFast: Bool) throws -> Start {
        let words = ["BACKUP", "START", label] + (isFast ? ["FAST"] : [])
        let reply = try client.call(words.map { Array($0.utf8) }, patience: .unlimited)
        return Start(
            startLSN: try field(reply, "start_lsn", LSN.init), timeline: try timeline(reply),
            token: try field(reply, "token") { TimelineToken(name: $0) },
            systemIdentifier: try field(reply, "system_identifier", SystemIdentifier.init),
            checkpointLSN: try field(reply, "checkpoint_lsn", LSN.init),
            startedAt: try field(reply, "started_at") { Timestamp($0) })
    }

    package func files() throws -> [File] {
        let reply = try client.call("BACKUP", "FILES")
        guard let elements = reply.elements else { throw nonsense("BACKUP FILES", "no list") }
        return try elements.map { element in
            let path = try text(element, "path")
            guard let bytes = element["bytes"]?.integer, bytes >= 0, bytes % Int64(Page.bytes) == 0,
                bytes <= Int64(PageNumber.pagesPerFile) * Int64(Page.bytes)
            else { throw nonsense("BACKUP FILES", "an impossible length for \(printable(path))") }
            return File(path: path, bytes: UInt64(bytes))
        }
    }

    /// Pages of a file of this backup, each consistent in itself; `count` bytes, whole pages.
    package func read(_ path: String, at offset: UInt64, count: Int) throws -> [UInt8] {
        let reply = try client.call("BACKUP", "READ", path, String(offset), String(count))
        guard let bytes = reply.bytes, bytes.count == count else {
            throw nonsense("BACKUP READ", "\(reply.bytes?.count ?? 0) bytes where \(count) were asked for")
        }
        return bytes
    }

    package func stopBackup() throws -> Stop {
        let reply = try client.call(["BACKUP", "STOP"].map { Array($0.utf8) }, patience: .unlimited)
        guard let label = reply["label"]?.bytes, !label.isEmpty else { throw nonsense("BACKUP STOP", "no label") }
        guard let transaction = reply["transaction"]?.integer, transaction >= 0 else {
            throw nonsense("BACKUP STOP", "no transaction")
        }
        var stopCRC: UInt32?
        if let number = reply["stop_crc"]?.integer {
            guard let crc = UInt32(exactly: number) else { throw nonsense("BACKUP STOP", "an impossible CRC") }
            stopCRC = crc
        }
        return Stop(
            stopLSN: try field(reply, "stop_lsn", LSN.init),
            stoppedAt: try field(reply, "stopped_at") { Timestamp($0) }, stopCRC: stopCRC,
            lastSegment: try field(reply, "last_segment", SegmentName.init),
            lastTransaction: TransactionID(UInt64(transaction)), label: label)
    }

    /// Keeps the connection from looking idle, and notices a leader that is gone.
    package func ping() throws { try client.call("PING") }

    package func close() { client.close() }

    // MARK: Fields

    private func text(_ reply: WireValue, _ name: String) throws -> String {
        guard let text = reply[name]?.text else { throw nonsense("field \(name)", "it is missing") }
        return text
    }

    private func field<T>(_ reply: WireValue, _ name: String, _ read: (String) -> T?) throws -> T {
        let text = try text(reply, name)
        guard let value = read(text) else { throw nonsense("field \(name)", "\"\(printable(text))\"") }
        return value
    }

    private func timeline(_ reply: WireValue) throws -> TimelineID {
        guard let number = reply["timeline"]?.integer, let id = UInt32(exactly: number), id > 0 else {
            throw nonsense("field timeline", "it is missing or no timeline")
        }
        return TimelineID(id)
    }

    private func flag(_ reply: WireValue, _ name: String) throws -> Bool {
        switch reply[name] {
        case .boolean(let value): return value
        case .integer(let value): return value != 0
        default: throw nonsense("field \(name)", "it is missing or no Boolean")
        }
    }

    func nonsense(_ what: String, _ why: String) -> LeaderError {
        .unexpectedReply(address.description, what: what, why: why)
    }
}

/// What a leader answers that a backup cannot use.
package enum LeaderError: DiagnosableError {
    case unexpectedReply(String, what: String, why: String)

    package var diagnosis: Diagnosis {
        switch self {
        case .unexpectedReply(let address, let what, let why):
            Diagnosis(
                "the leader's answer cannot be understood", at: "\(address), \(what)", why: why,
                next: "check that the address is a holdfast server of this version", status: .unavailable)
        }
    }
}
