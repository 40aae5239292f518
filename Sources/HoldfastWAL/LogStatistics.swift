import HoldfastCore

/// What a stretch of the log consists of: counts and bytes for each kind of record, and of the page changes in commits.
package struct LogStatistics: Equatable, Sendable {
    package struct Count: Equatable, Sendable {
        package var records = 0
        /// Headers and padding included.
        package var bytes = 0
    }

    package private(set) var kinds: [RecordKind: Count] = [:]
    /// Whole commits: their last parts.
    package private(set) var commits = 0
    package private(set) var images = Count()
    package private(set) var differences = Count()

    package init() {}

    package var total: Count {
        kinds.values.reduce(into: Count()) {
            $0.records += $1.records
            $0.bytes += $1.bytes
        }
    }

    /// - Parameter changes: what `ChangeScanner` found in the record.
    package mutating func add(_ record: LogRecord, _ changes: [ChangeScanner.Found]) {
        kinds[record.kind, default: Count()].records += 1
        kinds[record.kind, default: Count()].bytes += record.end - record.start
        if record.kind == .commit, record.flags.contains(.commit) { commits += 1 }
        for change in changes where !change.isContinued {
            let bytes = PageChange.headerBytes + change.bytes
            switch change.form {
            case .image:
                images.records += 1
                images.bytes += bytes
            case .difference:
                differences.records += 1
                differences.bytes += bytes
            }
        }
    }
}
