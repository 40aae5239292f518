import HoldfastArchive
import HoldfastRepository
import Synchronization

/// Streams a backup's archives into the repository, one object each. An archive appears under its name only
/// when it is whole and durable.
final class RepositorySink: ArchiveSink {
    private let taking: BackupTaking
    private let tag: ArchiveTag
    private let codec: Codec
    /// The archive being written. The pipeline calls from one thread at a time; the lock hands it from one to the next.
    private let writer = Mutex<(any ObjectWriter)?>(nil)

    init(_ taking: BackupTaking, tag: ArchiveTag, codec: Codec) {
        self.taking = taking
        self.tag = tag
        self.codec = codec
    }

    func begin(archive number: Int) throws {
        // Storing on behalf of a lapsed backup would leave objects behind a tombstone.
        let next = try taking.put(tag.archiveName(number, codec: codec))
        writer.withLock { $0 = next }
    }

    func write(_ bytes: UnsafeRawBufferPointer) throws {
        try writer.withLock { try $0!.write(bytes) }  // `begin` came first.
    }

    func finish(_ archive: FinishedArchive) throws {
        try writer.withLock { current in
            let writer = current!  // `begin` came first.
            guard try writer.finish() == .created else {
                throw RepositoryError.alreadyThere(tag.archiveName(archive.number, codec: codec))
            }
            current = nil
        }
    }

    /// Removes an archive that was begun and not finished.
    func abandon() {
        writer.withLock { current in
            current?.abandon()
            current = nil
        }
    }
}
