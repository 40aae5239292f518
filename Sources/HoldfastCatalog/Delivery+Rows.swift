import HoldfastCore

/// What the repository holds, as rows. Each is called inside a transaction that holds the cluster's lock.
extension Delivery {
    func writeCluster(_ name: String, _ row: ClusterRow) throws(CatalogError) {
        let ours = row.systemIdentifier.description
        let written = try connection.run("upsert_cluster", [name, ours, String(row.formatVersion)])
        guard written.count == 1 else {
            let theirs = try connection.run("cluster_identifier", [name])
            throw .otherCluster(name: name, catalog: theirs.count == 1 ? theirs[0, 0] ?? "?" : "?", repository: ours)
        }
    }

    /// `nil` deletes what the catalog has of it. Returns whether there is a backup.
    func writeBackup(_ id: String, cluster: String, _ row: BackupRow?) throws(CatalogError) -> Bool {
        guard ObjectName.isValid(id) else { throw .name(ObjectName.refusal(id, of: "backup")) }
        guard let row else {
            try connection.run("delete_backup", [cluster, id])
            return false
        }
        let places = [row.startLSN?.description, row.stopLSN?.description]
        let segments = [row.walFirst?.description, row.walLast?.description]
        let times = [row.startedAt.map(text), row.finishedAt.map(text)]
        let sizes = [row.pages, row.bytes, row.archiveBytes].map { $0.map { String($0) } }
        let head = [cluster, id, row.type, row.parent, row.state.rawValue, row.timeline.map { String($0.rawValue) }]
        try connection.run("upsert_backup", head + places + segments + times + sizes)
        try connection.run("delete_archives", [cluster, id])
        for archive in row.archives {
            try connection.run(
                "insert_archive", [cluster, id, archive.path, String(archive.bytes), archive.sha256])
        }
        return true
    }

    /// `nil` deletes what the catalog has of it. Only ranges that changed are touched: usually one row, whose end moves.
    func writeTimeline(_ timeline: TimelineID, cluster: String, _ row: TimelineRow?) throws(CatalogError) -> Bool {
        let number = String(timeline.rawValue)
        guard let row else {
            try connection.run("delete_timeline", [cluster, number])
            return false
        }
        try connection.run(
            "upsert_timeline",
            [cluster, number, row.parent.map { String($0.rawValue) }, row.switchLSN?.description])
        let wanted = WALRange.merged(row.wal).map {
            [$0.start.description, $0.end.description, $0.lastCommitAt.map(text)]
        }
        let there = try connection.run("list_ranges", [cluster, number])
        let known = (0..<there.count).map { [there[$0, 0], there[$0, 1], there[$0, 2]] }
        for range in known where !wanted.contains(range) {
            try connection.run("delete_range", [cluster, number, range[0]])
        }
        for range in wanted where !known.contains(range) {
            try connection.run("insert_range", [cluster, number] + range)
        }
        return true
    }

    func writeRestore(_ report: RestoreReport, _ fact: Fact) throws(CatalogError) {
        let head = [report.id.uuidString, fact.cluster, report.backup, report.target, report.targetTimeline]
        let place = [report.host, report.dataDirectory, report.outcome.rawValue]
        let times = [report.startedAt.map(text), report.finishedAt.map(text)]
        let sizes = [report.bytes, report.pages].map { $0.map { String($0) } }
        try connection.run("upsert_restore", head + place + times + sizes + [text(fact.occurredAt)])
    }

    /// Makes the catalog's rows of a cluster those of the repository, in one transaction with its `event` row.
    /// Restores, events and nodes, which the repository does not know, stay.
    func rebuild(_ cluster: String, at time: CatalogTime) throws(CatalogError) -> RebuildReport {
        let fact = try Fact(
            kind: .cluster, cluster: cluster, object: cluster, occurredAt: time, detail: ["why": "rebuild"])
        let report = try connection.transaction { () throws(CatalogError) in
            try connection.run("lock_cluster", [cluster])
            try reach(.locked)
            var report = RebuildReport(cluster: cluster)
            if let row = try read({ try source.cluster(cluster) }) {
                try writeCluster(cluster, row)
                report.isThere = true
            }
            // The repository's names are read behind the lock too; what they no longer show is deleted.
            let ids = report.isThere ? try read { try source.backupIDs(cluster: cluster) } : []
            for id in ids {
                let row = try read { try source.backup(id, cluster: cluster) }
                if try writeBackup(id, cluster: cluster, row) { report.backups += 1 }
            }
            let timelines = report.isThere ? try read { try source.timelines(cluster: cluster) } : []
            for timeline in timelines {
                let row = try read { try source.timeline(timeline, cluster: cluster) }
                if try writeTimeline(timeline, cluster: cluster, row) { report.timelines += 1 }
            }
            try reach(.read)
            let known = try connection.run("list_backups", [cluster])
            for row in 0..<known.count {
                if let id = known[row, 0], !ids.contains(id) { try connection.run("delete_backup", [cluster, id]) }
            }
            let numbers = Set(timelines.map { String($0.rawValue) })
            let branches = try connection.run("list_timelines", [cluster])
            for row in 0..<branches.count {
                if let number = branches[row, 0], !numbers.contains(number) {
                    try connection.run("delete_timeline", [cluster, number])
                }
            }
            try record(fact, found: report.isThere)
            try reach(.written)
            return report
        }
        try reach(.committed)
        return report
    }
}

/// What a rebuild found of a cluster.
package struct RebuildReport: Sendable, Equatable {
    package var cluster: String
    /// Whether the repository has the cluster at all.
    package var isThere = false
    package var backups = 0
    package var timelines = 0
}
