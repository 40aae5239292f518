import HoldfastCore
import HoldfastRepository
import HoldfastWAL

/// `holdfast wal dump`: a log's records, a line each, or what they amount to. As `pg_waldump`.
package enum WALDump {
    /// `write` gets whole lines. As JSON it is one object: the records in a list, each on a line of its own, or the
    /// statistics, and where the log ended.
    ///
    /// - Throws: `WALDumpError`; `damaged` behind the sound records when the log breaks off before it may.
    package static func run(
        _ request: WALDumpRequest, _ configuration: () throws -> Configuration,
        write: @escaping (String) throws -> Void
    ) throws {
        let filter = try request.filter()
        func dump<S: SegmentSource>(_ place: WALDumpPlace<S>) throws {
            var walk = Walk(place: place, filter: filter, output: Output(request, write))
            try walk.run()
        }
        if let text = request.segment {
            let path = WorkingDirectory.absolute(text)
            if let name = SegmentName(text), !DataDirectory.exists(path) {
                let access = ClusterAccess(try configuration())
                let repository = try access.repository()
                let bytes = try access.archive(repository).fetchExisting(name)
                return try dump(.segment(bytes, named: name.description) { try repository.history($0) })
            }
            let bytes = try PlainFile.read(path, limit: SegmentNumber.bytes + 1).bytes
            let beside = directoryPart(path) + "/"
            return try dump(
                .segment(bytes, named: printable(text, limit: 300)) { timeline in
                    let path = beside + TimelineHistory.fileName(timeline)
                    return DataDirectory.exists(path) ? try PlainFile.read(path, limit: 1 << 20).bytes : nil
                })
        }
        if let data = request.data {
            return try dump(.directory(WorkingDirectory.absolute(data), timeline: request.timeline))
        }
        let place = try WALDumpPlace<ArchivedLog>.archive(configuration(), timeline: request.timeline)
        do {
            try dump(place)
        } catch let error as WALError {
            throw place.source.failure ?? error
        }
    }

    static func header(_ bytes: [UInt8], _ place: String) throws(WALDumpError) -> SegmentHeader {
        guard bytes.count >= LogLayout.segmentHeaderBytes else {
            throw .notASegment(place, "it has \(bytes.count) bytes")
        }
        let read: Result<SegmentHeader, SegmentHeaderFault> = bytes.withUnsafeBytes { bytes in
            do throws(SegmentHeaderFault) {
                return .success(try SegmentHeader(reading: bytes.baseAddress!))
            } catch { return .failure(error) }
        }
        switch read {
        case .success(let header): return header
        case .failure(.newerVersion(let version)): throw .notASegment(place, "it is of the newer format \(version)")
        case .failure(.notAHeader): throw .notASegment(place, "its header cannot be read")
        }
    }

    /// The history that a segment is read along; without a file the segment is taken for one of a first timeline.
    static func history(_ identity: LogIdentity, _ file: [UInt8]?) throws -> TimelineHistory {
        guard let file else { return TimelineHistory(first: identity.token, timeline: identity.timeline) }
        return try TimelineHistory(decoding: file)
    }

    /// One reading of a log.
    private struct Walk<Source: SegmentSource> {
        let place: WALDumpPlace<Source>
        let filter: WALDumpFilter
        var output: Output

        mutating func run() throws {
            let start = try place.start(for: filter.from)
            try output.begin()
            let reader = reader(from: start)
            var ended: LogEnd?
            do {
                ended = try filter.transaction == nil ? showAll(reader) : showTransaction(reader)
            } catch let error as WALError {
                // What was shown stays whole.
                try output.end(nil, problem: error.diagnosis.why ?? error.diagnosis.what)
                throw error
            }
            let fault = ended.flatMap { place.fault($0) }
            try output.end(ended, problem: fault)
            if let fault { throw WALDumpError.damaged(place.name, fault) }
        }

        private func reader(from start: LSN) -> LogReader<Source> {
            LogReader(source: place.source, system: place.system, history: place.history, from: start, chain: nil)
        }

        private mutating func showAll(_ reader: LogReader<Source>) throws -> LogEnd? {
            var scanner = ChangeScanner()
            while let record = try reader.next() {
                if let to = filter.to, record.start >= to { return nil }
                let changes = scanner.scan(record)
                if filter.wants(record, changes) { try output.show(record, changes) }
            }
            return reader.end
        }

        /// Only the last part of a commit names its transactions: then its parts are read once more, from the first.
        private mutating func showTransaction(_ reader: LogReader<Source>) throws -> LogEnd? {
            var begun: LSN?
            while let record = try reader.next() {
                if let to = filter.to, record.start >= to { return nil }
                guard record.kind == .commit else { continue }
                if record.flags.contains(.begin) { begun = record.start }
                guard let wanted = filter.transaction, let range = CommitFormat.transactions(of: record),
                    range.contains(wanted)
                else { continue }
                let (first, last) = (begun ?? record.start, record.start)
                let again = self.reader(from: first)
                var scanner = ChangeScanner()
                while let part = try again.next(), part.start <= last {
                    let changes = scanner.scan(part)
                    if filter.wants(part, changes) { try output.show(part, changes) }
                }
                return nil
            }
            return reader.end
        }
    }

    /// Lines for people, or one JSON object; records, or what they amount to.
    private struct Output {
        private let showsStatistics: Bool
        private let asJSON: Bool
        private let sink: (String) throws -> Void
        private var pending = ""
        private var statistics = LogStatistics()
        private var shown = 0

        init(_ request: WALDumpRequest, _ sink: @escaping (String) throws -> Void) {
            showsStatistics = request.showsStatistics
            asJSON = request.asJSON
            self.sink = sink
        }

        /// Handed on in pieces, not line by line.
        private mutating func write(_ text: String) throws {
            pending += text
            if pending.utf8.count >= 1 << 16 { try flush() }
        }

        private mutating func flush() throws {
            try sink(pending)
            pending = ""
        }

        mutating func begin() throws { if asJSON { try write(showsStatistics ? "{" : "{\"records\":[") } }

        mutating func show(_ record: LogRecord, _ changes: [ChangeScanner.Found]) throws {
            statistics.add(record, changes)
            if showsStatistics { return }
            let dump = RecordDump(record, changes: changes)
            if asJSON {
                try write((shown == 0 ? "\n" : ",\n") + dump.json)
            } else {
                try write(dump.line + "\n")
            }
            shown += 1
        }

        /// - Parameter end: where the log ended; `nil`: nobody looked so far.
        mutating func end(_ end: LogEnd?, problem: String?) throws {
            try finish(end, problem)
            try flush()
        }

        private mutating func finish(_ end: LogEnd?, _ problem: String?) throws {
            guard asJSON else {
                if showsStatistics { try write(StatisticsText.table(statistics)) }
                if problem == nil, let end, end.position.rawValue % UInt64(SegmentNumber.bytes) != 0 {
                    try write("\(end.position)  end of the log: \(end.reason)\n")
                }
                return
            }
            if showsStatistics { try write(StatisticsText.json(statistics) + ",") } else { try write("\n],") }
            let endJSON: JSONValue =
                end.map {
                    [
                        "lsn": .init($0.position), "timeline": .integer(Int64($0.timeline.rawValue)),
                        "reason": .string($0.reason.description),
                    ]
                } ?? .null
            try write("\"end\":\(endJSON.text()),\"problem\":\(JSONValue(problem).text())}\n")
        }
    }
}

/// `--stats`.
private enum StatisticsText {
    static func table(_ statistics: LogStatistics) -> String {
        let total = statistics.total
        func share(_ bytes: Int) -> String {
            total.bytes == 0 ? "" : "\(bytes * 100 / total.bytes) %"
        }
        var table = TextTable([("KIND", .left), ("COUNT", .right), ("BYTES", .right), ("SHARE", .right)])
        for kind in RecordKind.allCases {
            guard let count = statistics.kinds[kind] else { continue }
            table.add(["\(kind)", String(count.records), String(count.bytes), share(count.bytes)])
        }
        table.add(["all records", String(total.records), String(total.bytes), ""])
        table.add(["commits", String(statistics.commits), "", ""])
        for (name, count) in [("images", statistics.images), ("differences", statistics.differences)] {
            table.add([name, String(count.records), String(count.bytes), share(count.bytes)])
        }
        return table.text
    }

    /// The members of the object, without its braces.
    static func json(_ statistics: LogStatistics) -> String {
        let kinds: [JSONValue] = RecordKind.allCases.compactMap { kind in
            statistics.kinds[kind].map {
                ["kind": .string("\(kind)"), "count": JSONValue($0.records), "bytes": JSONValue($0.bytes)]
            }
        }
        let total = statistics.total
        let members: [(key: String, value: JSONValue)] = [
            (key: "kinds", value: .array(kinds)), (key: "count", value: JSONValue(total.records)),
            (key: "bytes", value: JSONValue(total.bytes)), (key: "commits", value: JSONValue(statistics.commits)),
            (key: "images", value: JSONValue(statistics.images.records)),
            (key: "image_bytes", value: JSONValue(statistics.images.bytes)),
            (key: "differences", value: JSONValue(statistics.differences.records)),
            (key: "difference_bytes", value: JSONValue(statistics.differences.bytes)),
        ]
        return String(JSONValue.object(members).text().dropFirst().dropLast())
    }
}
