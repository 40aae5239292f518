import CShims
import HoldfastArchive
import HoldfastCore
import HoldfastEngine
import HoldfastRepository

/// The objects of one backup, each checked against what `backup.json` says of it before it is believed.
struct BackupObjects {
    private let repository: Repository
    private let record: BackupRecord
    private let index: FrameIndex
    private let checksums: PageChecksums
    private let stored: BackupManifest

    /// Reads and checks the tables and the manifest, and that every archive is there in its length.
    init(_ repository: Repository, _ record: BackupRecord) throws {
        self.repository = repository
        self.record = record
        index = try FrameIndex(decoding: Self.bytes(of: record.frameIndex, repository, record))
        checksums = try PageChecksums(decoding: Self.bytes(of: record.pageChecksums, repository, record))
        stored = try BackupManifest(decoding: Self.bytes(of: record.manifest, repository, record))
        guard index.tag.systemIdentifier == record.systemIdentifier, index.tag.startLSN == record.startLSN,
            index.tag.timeline == record.timeline, index.tag.backupID == record.id.description,
            index.archives.count == record.archives.count, index.codec.name == record.codec
        else {
            throw RestoreError.damagedBackup(
                record.id, object: record.frameIndex.path, why: "it is the frame table of another backup")
        }
        for (archive, listed) in zip(index.archives, record.archives) {
            let path = Self.path(listed.path, repository)
            guard let found = try repository.store.describe(path) else {
                throw RestoreError.damagedBackup(record.id, object: listed.path, why: "it is missing")
            }
            guard found.bytes == listed.bytes, archive.bytes == listed.bytes else {
                throw RestoreError.damagedBackup(
                    record.id, object: listed.path, why: "it has \(found.bytes) bytes instead of \(listed.bytes)")
            }
        }
    }

    /// Unpacks all page files to their places, durably; returns `backup_label`.
    func unpack(
        into directory: String, workers: Int, progress: (@Sendable (ArchiveProgress) -> Void)?,
        cancellation: CancellationFlag?
    ) throws -> [UInt8] {
        let source = try RepositorySource(repository, record)
        defer { source.close() }
        let options = RestoreOptions(workers: workers, progress: progress, cancellation: cancellation)
        let reader = try ArchiveReader(index, checksums: checksums, source: source, options: options)
        let small = try reader.restore(into: directory)
        guard let label = small.first(where: { $0.path == BackupLabel.path }) else {
            throw RestoreError.damagedBackup(
                record.id, object: record.archives.last?.path ?? "", why: "it has no \(BackupLabel.path)")
        }
        return label.bytes
    }

    /// Single pages, ascending; see `ArchiveReader.pages`.
    func pages(_ ranges: [Range<UInt64>], _ body: (PageNumber, UnsafeRawBufferPointer) throws -> Void) throws {
        let source = try RepositorySource(repository, record)
        defer { source.close() }
        try ArchiveReader(index, checksums: checksums, source: source).pages(ranges, body)
    }

    /// The manifest of the restored directory: the backup's, and the control file that the restore writes.
    func manifest(with control: ControlData) throws -> [UInt8] {
        var manifest = stored
        let bytes = control.encoded(sequence: 2) + control.encoded(sequence: 1)
        manifest.files.append(
            .init(
                path: ControlData.path, bytes: UInt64(bytes.count),
                modified: record.finishedAt.microseconds / 1_000_000, crc: hf_crc32c(0, bytes, bytes.count)))
        return try manifest.encoded()
    }

    private static func path(_ text: String, _ repository: Repository) -> ObjectPath {
        // Checked when the record was read: it lies in the backup's directory and is a plain name there.
        ObjectPath(repository.cluster + "/" + text)!
    }

    private static func bytes(
        of file: BackupRecord.StoredFile, _ repository: Repository, _ record: BackupRecord
    ) throws -> [UInt8] {
        guard file.bytes <= 8 << 30,
            let bytes = try repository.store.read(path(file.path, repository), limit: Int(file.bytes))
        else { throw RestoreError.damagedBackup(record.id, object: file.path, why: "it is missing") }
        guard UInt64(bytes.count) == file.bytes, SHA256Digest(of: bytes) == file.sha256 else {
            throw RestoreError.damagedBackup(
                record.id, object: file.path, why: "its SHA-256 is not the one in backup.json")
        }
        return bytes
    }

    /// Random access to the archives of a backup in its repository.
    private final class RepositorySource: ArchiveSource {
        private let archives: [any StoredObject]

        init(_ repository: Repository, _ record: BackupRecord) throws {
            archives = try record.archives.map { try repository.store.open(BackupObjects.path($0.path, repository)) }
        }

        func read(archive number: Int, into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws -> Int {
            try archives[number - 1].read(into: buffer, at: offset)
        }

        func close() { for archive in archives { archive.close() } }
    }
}
