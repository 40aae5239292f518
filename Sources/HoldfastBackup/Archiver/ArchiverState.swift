import HoldfastCore

/// How archiving stands: what `INFO`, `status` and the metrics show.
package struct ArchiverState: Sendable, Equatable {
    /// Segments marked `.ready` that are not in the archive yet.
    package var waiting = 0
    package var oldestWaiting: SegmentName?
    /// The newest segment marked `.done` by this archiver.
    package var lastArchived: SegmentName?
    package var lastArchivedAt: Timestamp?
    /// Since the archiver began; `storedBytes` as they are stored.
    package var archivedSegments: UInt64 = 0
    package var storedBytes: UInt64 = 0
    /// Of the last round; `nil` when it had none.
    package var lastError: Diagnosis?
    package var lastErrorAt: Timestamp?
    /// Rounds in a row that failed.
    package var failedRounds = 0

    package init() {}

    package var isFailing: Bool { failedRounds > 0 }
    /// All below is in the archive.
    package var archivedLSN: LSN? { lastArchived?.segment.end }
}
