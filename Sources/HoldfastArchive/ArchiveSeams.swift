import HoldfastCore

/// Where an archive's bytes go. The pipeline calls it from one thread at a time, in this order:
/// `begin(1)`, `write`…, `finish`, `begin(2)` and so on; which thread calls may change between calls.
/// A throw ends the backup with that error. Durability is the sink's affair.
package protocol ArchiveSink: AnyObject, Sendable {
    /// Archive `number` (from 1) starts; its name is `ArchiveTag.archiveName`.
    func begin(archive number: Int) throws
    /// The next bytes of the archive that was begun. The buffer is valid during the call only.
    func write(_ bytes: UnsafeRawBufferPointer) throws
    /// All bytes of the archive were given. When this returns, the archive may be named in a commit marker.
    func finish(_ archive: FinishedArchive) throws
}

/// Random access to a backup's archives as they were written (decrypted, still compressed).
/// Called from several threads at once.
package protocol ArchiveSource: Sendable {
    /// Fills `buffer` from byte `offset` of archive `number`; returns how much, fewer only where it ends.
    func read(archive number: Int, into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws -> Int
}

/// Where a backup's pages come from: the data directory (`FilePageSource`) or the wire.
/// Called from several threads at once.
package protocol PageSource: Sendable {
    /// Fills `buffer` from byte `offset` of page file `file`; returns how much, fewer only where the file
    /// ends now. What comes may be torn: the pipeline checks every page and comes back for bad ones.
    func read(file: Int, into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws -> Int
    /// One page, read so that no writer is in the middle of it (`BACKUP READ`); `false` when there is
    /// nobody to ask. Called only for a page that stayed bad.
    func readSettled(_ page: PageNumber, into buffer: UnsafeMutableRawBufferPointer) throws -> Bool
}

/// What an archive says about itself, in its name and in its pax global header.
package struct ArchiveTag: Sendable, Equatable {
    package var backupID: String
    package var systemIdentifier: SystemIdentifier
    package var timeline: TimelineID
    package var startLSN: LSN

    package init(backupID: String, systemIdentifier: SystemIdentifier, timeline: TimelineID, startLSN: LSN) {
        self.backupID = backupID
        self.systemIdentifier = systemIdentifier
        self.timeline = timeline
        self.startLSN = startLSN
    }

    /// `base-00000001-00000016B374D848-0001.tar.zst`
    package func archiveName(_ number: Int, codec: Codec) -> String {
        let digits = String(number)
        let padded = String(repeating: "0", count: max(0, 4 - digits.utf8.count)) + digits
        return "base-\(timeline)-\(startLSN.objectName)-\(padded).tar\(codec.fileExtension)"
    }
}

/// How a backup is packed.
package struct ArchiveOptions: Sendable {
    package var compression: Compression
    /// Threads that read, check and compress; from 1 to 64.
    package var workers: Int
    /// A new archive begins with the page file that would take the tar stream past this. An archive
    /// holds at least one page file whatever its size.
    package var archiveBytes: UInt64
    /// Page bytes read in a second, at most; `nil`: as fast as it goes.
    package var maxRateBytesPerSecond: UInt64?
    /// Directories that an unpacked archive must have (`pages`, `wal`), in this order.
    package var directories: [String]
    /// Worker threads ask for idle I/O priority and the lowest CPU priority.
    package var isPolite: Bool
    /// Called after each frame has been written, from one thread at a time.
    package var progress: (@Sendable (ArchiveProgress) -> Void)?
    package var cancellation: CancellationFlag?

    package init(
        compression: Compression = .init(.zstd, level: 1), workers: Int = 2, archiveBytes: UInt64 = 16 << 30,
        maxRateBytesPerSecond: UInt64? = nil, directories: [String] = ["pages", "wal"], isPolite: Bool = false,
        progress: (@Sendable (ArchiveProgress) -> Void)? = nil, cancellation: CancellationFlag? = nil
    ) {
        self.compression = compression
        self.workers = workers
        self.archiveBytes = archiveBytes
        self.maxRateBytesPerSecond = maxRateBytesPerSecond
        self.directories = directories
        self.isPolite = isPolite
        self.progress = progress
        self.cancellation = cancellation
    }
}

/// A page file to be taken: `bytes` from its start, a multiple of 8,192. Where the file is shorter
/// by the time it is read, the rest is zeros: pages that were never written.
package struct PageFileMember: Sendable, Equatable {
    /// Which page file: its path is `PageNumber.filePath(index)`.
    package var index: Int
    package var bytes: UInt64
    /// Seconds since 1970, as shown by `tar -t` and in the manifest.
    package var modified: Int64

    package init(index: Int, bytes: UInt64, modified: Int64) {
        self.index = index
        self.bytes = bytes
        self.modified = modified
    }
}

/// A small file held in memory: the control file, `backup_label`.
package struct SmallMember: Sendable, Equatable {
    package var path: String
    package var bytes: [UInt8]
    /// Seconds since 1970.
    package var modified: Int64

    package init(path: String, bytes: [UInt8], modified: Int64) {
        self.path = path
        self.bytes = bytes
        self.modified = modified
    }
}

/// An archive all of whose bytes were given to the sink.
package struct FinishedArchive: Sendable, Equatable {
    /// From 1.
    package var number: Int
    /// As stored, before any encryption.
    package var bytes: UInt64
    /// Of the tar stream, uncompressed.
    package var streamBytes: UInt64
    /// 32 bytes: SHA-256 of what the sink was given.
    package var sha256: [UInt8]

    package init(number: Int, bytes: UInt64, streamBytes: UInt64, sha256: [UInt8]) {
        self.number = number
        self.bytes = bytes
        self.streamBytes = streamBytes
        self.sha256 = sha256
    }
}

package struct ArchiveProgress: Sendable, Equatable {
    /// Page bytes done, and in all.
    package var bytes: UInt64
    package var totalBytes: UInt64
    /// Compressed bytes written or read so far.
    package var archiveBytes: UInt64

    package init(bytes: UInt64, totalBytes: UInt64, archiveBytes: UInt64) {
        self.bytes = bytes
        self.totalBytes = totalBytes
        self.archiveBytes = archiveBytes
    }
}

/// What a finished backup leaves behind beside its archives.
package struct ArchiveResult: Sendable {
    /// To be stored as `frames.idx`.
    package var index: FrameIndex
    /// To be stored as `pages.crc`.
    package var checksums: PageChecksums
    package var archives: [FinishedArchive]
    /// Every file of the backup with its CRC32C, in archive order: what `backup_manifest` lists.
    package var files: [BackupManifest.File]
}
