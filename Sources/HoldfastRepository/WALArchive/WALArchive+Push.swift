import HoldfastArchive
import HoldfastCore

extension WALArchive {
    package enum PushResult: Sendable, Equatable {
        case stored(bytes: UInt64)
        /// It was there with equal content.
        case alreadyThere
    }

    /// Stores a segment: its summary first, then the segment, each exclusively and durably. When this returns both are
    /// on the repository's disk. `summary` must have been made from exactly these `plaintext` bytes.
    ///
    /// Throws `segmentConflict` when the archive holds other content under this name, or when the segment is of
    /// another cluster, or of another timeline that bears the same number; `StoreError` when the repository fails or
    /// is away: then the push may be repeated.
    package func push(
        _ name: SegmentName, plaintext: UnsafeRawBufferPointer, summary: SegmentSummary
    ) throws -> PushResult {
        try requireOwn(name, plaintext, summary)
        try repository.requirePresent()
        let result = try store(name, plaintext, summary)
        // A file system unmounted since, or for a while, would have let it all be written to the directory beneath.
        try repository.requirePresent()
        guard try holds(name) else { throw StoreError("store", layout.summary(name).text, .away) }
        return result
    }

    private func store(
        _ name: SegmentName, _ plaintext: UnsafeRawBufferPointer, _ summary: SegmentSummary
    ) throws -> PushResult {
        if let token = try token(of: name.timeline), token != summary.token {
            throw RepositoryError.segmentConflict(
                name,
                why: "its timeline's token is \(summary.token), that of timeline \(name.timeline.rawValue) in "
                    + "the repository is \(token)")
        }
        let encoded = summary.encoded()
        if try store.create(layout.summary(name), encoded) == .different { try requireEqual(name, summary) }
        if try isStored(name, summary) { return .alreadyThere }

        let path = layout.segment(name, compression.codec)
        let writer = try store.put(path)
        do {
            try compressed(plaintext) { try writer.write($0) }
            let bytes = writer.bytes
            if try writer.finish() == .created { return .stored(bytes: bytes) }
        } catch {
            writer.abandon()
            throw error
        }
        // Another agent was quicker; what it stored must be what its summary, which is ours, says.
        guard try isStored(name, summary) else { throw StoreError("store", path.text, .missing) }
        return .alreadyThere
    }

    private func requireOwn(_ name: SegmentName, _ plaintext: UnsafeRawBufferPointer, _ summary: SegmentSummary) throws
    {
        let count = plaintext.count
        guard count == SegmentNumber.bytes, summary.bytes == count else {
            throw RepositoryError.segmentConflict(
                name, why: "it has \(count) bytes; a segment has \(SegmentNumber.bytes)")
        }
        // Replay will go by it: a summary that contradicts itself would make a sound segment useless.
        guard summary.crc32c == SegmentSummary.checksum(of: plaintext) else {
            throw RepositoryError.segmentConflict(name, why: "its CRC32C is not what its summary says")
        }
        guard summary.segment == name else {
            throw RepositoryError.segmentConflict(name, why: "it holds the bytes of segment \(summary.segment)")
        }
        guard summary.systemIdentifier == repository.systemIdentifier else {
            throw RepositoryError.segmentConflict(
                name,
                why: "it is of the cluster with system identifier \(summary.systemIdentifier); "
                    + "this repository's is \(repository.systemIdentifier)")
        }
    }

    /// The summary that exists must be of equal content.
    private func requireEqual(_ name: SegmentName, _ summary: SegmentSummary) throws {
        guard let existing = try self.summary(name) else {
            throw StoreError("read", layout.summary(name).text, .missing)
        }
        guard existing.token == summary.token else {
            throw RepositoryError.segmentConflict(
                name,
                why: "the archive holds a segment of this name with the timeline token \(existing.token), "
                    + "not \(summary.token)")
        }
        guard existing.sha256 == summary.sha256, existing.crc32c == summary.crc32c else {
            throw RepositoryError.segmentConflict(
                name,
                why: "the archive holds other content under this name (SHA-256 \(existing.sha256), "
                    + "not \(summary.sha256))")
        }
    }

    /// `true` when the segment is there, durable and sound. What was pushed before is read again, so that a push
    /// repeated never reports as safe what cannot be restored.
    private func isStored(_ name: SegmentName, _ summary: SegmentSummary) throws -> Bool {
        let buffer = SegmentBuffer()
        for codec in Codec.allCases {
            let path = layout.segment(name, codec)
            guard try store.confirm(path) != nil else { continue }
            guard try readPlain(name, path, codec, into: buffer) else { continue }
            try requireDigest(name, path, buffer.bytes, summary)
            return true
        }
        return false
    }

    private func compressed(
        _ plaintext: UnsafeRawBufferPointer, _ write: (UnsafeRawBufferPointer) throws -> Void
    ) throws {
        if compression.codec == .none { return try write(plaintext) }
        let target = UnsafeMutableRawBufferPointer.allocate(
            byteCount: Codec.compressedBound(plaintext.count), alignment: 64)
        defer { target.deallocate() }
        let count = try Compressor(compression).compress(plaintext, into: target)
        try write(UnsafeRawBufferPointer(rebasing: target[..<count]))
    }
}
