import HoldfastCore

/// What can go wrong with the log.
package enum WALError: DiagnosableError {
    /// A call of the disk failed. `isNoSpace` tells the one case that heals by itself.
    case disk(DiskError)
    /// An earlier write or sync of the log failed: nothing more may be written by this process.
    case poisoned(DiskError)
    /// The log breaks off although something shows that it had been durable further on.
    case damaged(LogEnd, evidence: DamageEvidence)
    /// A record that verifies says something impossible.
    case invalid(at: LSN, String)
    /// Written by a later version of Holdfast.
    case newerFormat(place: String, version: UInt32)
    /// A timeline history that cannot be read.
    case history(String)

    package var isNoSpace: Bool {
        if case .disk(let error) = self { return error.isNoSpace }
        return false
    }

    package var diagnosis: Diagnosis {
        let restore = "the data directory cannot be trusted: restore the cluster from a backup (holdfast restore)"
        switch self {
        case .disk(let error): return error.diagnosis
        case .poisoned(let error):
            return Diagnosis(
                "the write-ahead log cannot be written any more", at: error.path,
                why: "an earlier \(error.operation) failed, and what it covered is unknown",
                next: "start again: recovery finds everything that was acknowledged", status: .inputOutput)
        case .damaged(let end, let evidence):
            return Diagnosis(
                "the write-ahead log is damaged at \(end.position)",
                at: "wal/\(end.segment) at \(end.segmentOffset)",
                why: "\(end.reason), but \(evidence)",
                next: restore + "; commits up to \(end.position) can be kept with --target-lsn \(end.position)",
                status: .dataError)
        case .invalid(let lsn, let what):
            return Diagnosis("the record at \(lsn) makes no sense", why: what, next: restore, status: .dataError)
        case .newerFormat(let place, let version):
            return Diagnosis(
                "the write-ahead log is of a newer format", at: place, why: "its version is \(version)",
                next: "use the version of holdfast that wrote it, or a later one", status: .dataError)
        case .history(let what):
            return Diagnosis(
                "a timeline history cannot be read", why: what,
                next: "take the history file from the repository again", status: .dataError)
        }
    }
}

/// Why a place behind which no record follows cannot be the end of the log.
package enum DamageEvidence: Equatable, Sendable, CustomStringConvertible {
    /// The control file knows that the log was durable to here.
    case knownDurable(LSN)
    /// A sound record at `at` says that its writer knew everything below `mark` to be durable.
    case laterRecord(at: LSN, mark: LSN)
    /// A later segment exists.
    case laterSegment(SegmentName)

    package var description: String {
        switch self {
        case .knownDurable(let lsn): "the log was durable up to \(lsn) according to the control file"
        case .laterRecord(let at, let mark): "the record at \(at) shows that it was durable up to \(mark)"
        case .laterSegment(let name): "the later segment \(name) exists"
        }
    }
}

/// Runs calls of the disk, turning their error into the log's.
@inline(__always)
func onDisk<R>(_ body: () throws(DiskError) -> R) throws(WALError) -> R {
    do throws(DiskError) { return try body() } catch { throw .disk(error) }
}
