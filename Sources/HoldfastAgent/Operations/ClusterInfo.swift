import HoldfastCore
import HoldfastRepository

/// `holdfast info`: what the repository holds of each cluster.
package struct ClusterInfo: Sendable {
    package var name: String
    package var systemIdentifier: SystemIdentifier
    package var backups: [BackupEntry]
    package var wal: [TimelineWAL]
    package var window: RecoveryWindow?

    package init(_ repository: Repository, _ archive: WALArchive) throws {
        name = repository.cluster
        systemIdentifier = repository.systemIdentifier
        backups = try repository.backups()
        wal = try archive.inventory()
        window = try RecoveryWindow(repository, archive, wal, backups.compactMap(\.usable))
    }

    /// Of one cluster, or of all in the repository.
    package static func report(_ configuration: Configuration, cluster: String?) throws -> Report {
        let store = try ClusterAccess(configuration).store()
        let names = try cluster.map { [$0] } ?? Repository.clusters(in: store)
        let infos = try names.map { name in
            let repository = try Repository.open(store, cluster: name)
            return try ClusterInfo(repository, WALArchive(repository))
        }
        let text =
            infos.isEmpty ? "the repository holds no cluster\n" : infos.map(\.text).joined(separator: "\n")
        return Report(text: text, json: ["clusters": .array(infos.map(\.json))])
    }

    // MARK: JSON

    package var json: JSONValue {
        [
            "name": .string(name), "system_identifier": .string(systemIdentifier.description),
            "backups": .array(backups.compactMap(\.usable).map { Self.json($0) }),
            "wal": .array(wal.map { Self.json($0) }),
            "recovery_window": window.map { window in
                [
                    "earliest": .string(window.earliest.description), "latest": .string(window.latest.description),
                    "earliest_lsn": .init(window.earliestLSN), "latest_lsn": .init(window.latestLSN),
                    "timeline": .integer(Int64(window.timeline.rawValue)),
                ]
            } ?? .null,
            "other_backups": .array(
                backups.compactMap { entry in
                    Self.remark(entry).map { ["id": .string(entry.id.description), "state": .string($0)] }
                }),
        ]
    }

    package static func json(_ record: BackupRecord) -> JSONValue {
        [
            "id": .string(record.id.description), "type": .string(record.type.rawValue),
            "parent": .init(record.parent?.description), "label": .string(record.label),
            "cluster": .string(record.cluster), "system_identifier": .string(record.systemIdentifier.description),
            "timeline": .integer(Int64(record.timeline.rawValue)), "start_lsn": .init(record.startLSN),
            "stop_lsn": .init(record.stopLSN), "started_at": .string(record.startedAt.description),
            "finished_at": .string(record.finishedAt.description), "pages": .integer(Int64(clamping: record.pages)),
            "bytes": .integer(Int64(clamping: record.bytes)),
            "archive_bytes": .integer(Int64(clamping: record.archiveBytes)), "codec": .string(record.codec),
            "archives": .array(
                record.archives.map {
                    [
                        "path": .string($0.path), "bytes": .integer(Int64(clamping: $0.bytes)),
                        "sha256": .string($0.sha256.description),
                    ]
                }),
            "wal": [
                "first": .string(record.wal.first.description), "last": .string(record.wal.last.description),
            ],
        ]
    }

    package static func json(_ wal: TimelineWAL) -> JSONValue {
        [
            "timeline": .integer(Int64(wal.timeline.rawValue)), "first": .init(wal.first?.description),
            "last": .init(wal.last?.description), "segments": JSONValue(wal.segments),
            "bytes": .integer(Int64(clamping: wal.bytes)),
            "gaps": .array(
                wal.gaps.map { gap in
                    [
                        "first": .string(SegmentName(timeline: wal.timeline, segment: gap.lowerBound).description),
                        "last": .string(SegmentName(timeline: wal.timeline, segment: gap.upperBound).description),
                    ]
                }),
        ]
    }

    /// Why a backup is not among the usable ones.
    private static func remark(_ entry: BackupEntry) -> String? {
        switch entry.state {
        case .committed: nil
        case .removed: "removed"
        case .unfinished(_, let isLapsed): isLapsed ? "interrupted" : "running"
        case .tombstone: "abandoned"
        case .damaged(let error): "damaged: \(error.diagnosis.why ?? error.diagnosis.what)"
        }
    }

    // MARK: Text

    package var text: String {
        var text = "cluster \(name)\n  system identifier  \(systemIdentifier)\n"
        if let window {
            text += "  recovery window    \(window.earliest) to \(window.latest)\n"
            text +=
                "                     \(window.earliestLSN) to \(window.latestLSN), timeline \(window.timeline.rawValue)\n"
        } else {
            text += "  recovery window    none: there is no usable backup\n"
        }
        text += "\n" + backupTable + "\n" + walTable
        return text
    }

    private var backupTable: String {
        var table = TextTable([
            ("BACKUP", .left), ("TIMELINE", .right), ("START", .left), ("STOP", .left), ("TOOK", .right),
            ("SIZE", .right), ("STORED", .right), ("LABEL", .left),
        ])
        for entry in backups {
            if case .tombstone = entry.state { continue }
            if let record = entry.usable {
                let seconds = Double(record.finishedAt.microseconds - record.startedAt.microseconds) / 1e6
                table.add([
                    record.id.description, String(record.timeline.rawValue), record.startLSN.description,
                    record.stopLSN.description, Quantity.seconds(seconds),
                    Quantity.bytes(Int(clamping: record.bytes)), Quantity.bytes(Int(clamping: record.archiveBytes)),
                    record.label,
                ])
            } else {
                table.add([entry.id.description, "", "", "", "", "", "", "(\(Self.remark(entry) ?? ""))"])
            }
        }
        return table.isEmpty ? "no backups\n" : table.text
    }

    private var walTable: String {
        var table = TextTable([
            ("TIMELINE", .right), ("FIRST WAL SEGMENT", .left), ("LAST", .left), ("SEGMENTS", .right),
            ("STORED", .right), ("GAPS", .right),
        ])
        for wal in wal where wal.segments > 0 {
            table.add([
                String(wal.timeline.rawValue), wal.first?.description ?? "", wal.last?.description ?? "",
                String(wal.segments), Quantity.bytes(Int(clamping: wal.bytes)), String(wal.gaps.count),
            ])
        }
        return table.isEmpty ? "no WAL\n" : table.text
    }
}
