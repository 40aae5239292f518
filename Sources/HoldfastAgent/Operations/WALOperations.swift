import HoldfastBackup
import HoldfastCore
import HoldfastRepository
import HoldfastWAL
import Logging

/// `holdfast wal push | fetch | list`.
package enum WALOperations {
    /// Pushes segments of a data directory by hand: those named, or all that wait. Equal content that is there already
    /// is fine.
    package static func push(_ configuration: Configuration, segments names: [String], log: Logger) throws -> Report {
        let data = try configuration.requiredData()
        let disk = try RealDisk(root: WorkingDirectory.absolute(data))
        let control = try DataDirectory.control(disk)
        let access = ClusterAccess(configuration)
        let archive = try access.archive(access.repository(creatingFor: control.system))
        var segments = try names.map { try segment($0) }
        if segments.isEmpty {
            segments = try Archiver(disk, connect: { archive }).readySegments()
        }
        let pusher = SegmentPusher(disk: disk, archive: archive)
        let facts = CatalogFacts.ifUsable(configuration, log: log)
        var text = ""
        var results: [JSONValue] = []
        for name in segments {
            let announcement = facts?.announce(timeline: name.timeline)
            defer { facts?.complete(announcement) }
            switch try pusher.push(name) {
            case .stored(let bytes):
                text += "\(name) stored, \(Quantity.bytes(Int(clamping: bytes)))\n"
                results.append([
                    "segment": .string(name.description), "result": "stored", "bytes": .integer(Int64(clamping: bytes)),
                ])
            case .alreadyThere:
                text += "\(name) is there already, with equal content\n"
                results.append(["segment": .string(name.description), "result": "already_there"])
            }
        }
        if segments.isEmpty { text = "no segment waits\n" }
        return Report(text: text, json: ["segments": .array(results)])
    }

    /// Fetches one segment, checked from end to end, into a file that must not exist.
    package static func fetch(_ configuration: Configuration, segment name: String, to path: String) throws -> Report {
        let name = try segment(name)
        let access = ClusterAccess(configuration)
        let bytes = try access.archive(access.repository()).fetchExisting(name)
        let path = WorkingDirectory.absolute(path)
        let parent = directoryPart(path)
        let disk = try RealDisk(root: parent.isEmpty ? "/" : parent)
        let file = try disk.open(String(path.dropFirst(parent.count + 1)), .create)
        defer { file.close() }
        try file.write(bytes: bytes, at: 0)
        try file.sync()
        try disk.syncDirectory("")
        return Report(
            text: "\(name) fetched to \(printable(path, limit: 300)), \(Quantity.bytes(bytes.count))\n",
            json: ["segment": .string(name.description), "path": .string(path), "bytes": JSONValue(bytes.count)])
    }

    /// What the archive holds, a line for each contiguous range, or for each segment.
    package static func list(_ configuration: Configuration, everySegment: Bool) throws -> Report {
        let access = ClusterAccess(configuration)
        let archive = try access.archive(access.repository())
        let inventory = try archive.inventory().filter { $0.segments > 0 }
        var json: JSONValue = ["timelines": .array(inventory.map { ClusterInfo.json($0) })]
        if everySegment {
            var table = TextTable([("SEGMENT", .left), ("STORED", .right), ("COMMITS", .right), ("LAST COMMIT", .left)])
            var segments: [JSONValue] = []
            for timeline in inventory {
                for segment in try archive.segments(of: timeline.timeline) {
                    let commits = try archive.summary(segment.name)?.commits
                    table.add([
                        segment.name.description, Quantity.bytes(Int(clamping: segment.bytes)),
                        String(commits?.count ?? 0), commits?.lastTime.description ?? "",
                    ])
                    segments.append([
                        "segment": .string(segment.name.description), "bytes": .integer(Int64(clamping: segment.bytes)),
                        "commits": .integer(Int64(clamping: commits?.count ?? 0)),
                        "first_time": .init(commits?.firstTime.description),
                        "last_time": .init(commits?.lastTime.description),
                    ])
                }
            }
            if case .object(var pairs) = json {
                pairs.append((key: "segments", value: .array(segments)))
                json = .object(pairs)
            }
            return Report(text: table.text, json: json)
        }
        var table = TextTable([
            ("TIMELINE", .right), ("FIRST", .left), ("LAST", .left), ("SEGMENTS", .right),
        ])
        for timeline in inventory {
            for range in timeline.ranges {
                table.add([
                    String(timeline.timeline.rawValue),
                    SegmentName(timeline: timeline.timeline, segment: range.lowerBound).description,
                    SegmentName(timeline: timeline.timeline, segment: range.upperBound).description,
                    String(range.upperBound.rawValue - range.lowerBound.rawValue + 1),
                ])
            }
        }
        return Report(text: table.isEmpty ? "the archive holds no WAL\n" : table.text, json: json)
    }

    private static func segment(_ text: String) throws(SegmentDumpError) -> SegmentName {
        if let name = SegmentName(text) { return name }
        throw SegmentDumpError(place: printable(text), why: "it is no segment's name of 24 hex digits", isUsage: true)
    }
}

/// What is no segment, or cannot be used as one.
package struct SegmentDumpError: DiagnosableError, Equatable {
    package var place: String
    package var why: String
    package var isUsage = false

    package var diagnosis: Diagnosis {
        Diagnosis(
            "cannot use the WAL segment", at: place, why: why,
            next: isUsage ? "see holdfast wal list" : "fetch the segment from the archive, or see holdfast info",
            status: isUsage ? .usage : .dataError)
    }
}
