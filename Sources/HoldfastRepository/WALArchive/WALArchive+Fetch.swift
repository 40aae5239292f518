import HoldfastArchive
import HoldfastCore

extension WALArchive {
    /// The plain bytes of a segment, checked against its summary; `nil` when it is not in the archive (yet).
    /// Throws `segmentDamaged`, with what is wrong and the remedy, for one that is empty, short, damaged, exchanged
    /// with another, or without a summary: such bytes are never returned.
    package func fetch(_ name: SegmentName) throws -> [UInt8]? {
        let buffer = SegmentBuffer()
        guard let (path, summary) = try readChecked(name, into: buffer) else { return nil }
        try requireDigest(name, path, buffer.bytes, summary)
        return Array(buffer.bytes)
    }

    /// The same into a buffer, for a reader that verifies each record: checked against the summary's CRC32C alone, which
    /// costs a tenth of the SHA-256. `false` when the segment is not in the archive (yet).
    package func fetch(_ name: SegmentName, into buffer: SegmentBuffer) throws -> Bool {
        try readChecked(name, into: buffer) != nil
    }

    private func readChecked(_ name: SegmentName, into buffer: SegmentBuffer) throws -> (ObjectPath, SegmentSummary)? {
        guard let (path, summary) = try read(name, into: buffer) else { return nil }
        if SegmentSummary.checksum(of: buffer.bytes) != summary.crc32c {
            // Says what is wrong.
            try requireDigest(name, path, buffer.bytes, summary)
            throw RepositoryError.segmentDamaged(
                name, object: layout.relative(layout.summary(name)),
                why: "its CRC32C is of other bytes than its SHA-256")
        }
        return (path, summary)
    }

    /// Decompressed; not yet checked against its summary.
    private func read(_ name: SegmentName, into buffer: SegmentBuffer) throws -> (ObjectPath, SegmentSummary)? {
        guard let (path, codec) = try stored(name) else { return nil }
        guard let summary = try summary(name) else {
            throw RepositoryError.segmentDamaged(
                name, object: layout.relative(layout.summary(name)), why: "its summary is missing")
        }
        guard summary.bytes == SegmentNumber.bytes else {
            throw RepositoryError.segmentDamaged(
                name, object: layout.relative(layout.summary(name)),
                why: "its summary speaks of a segment of \(summary.bytes) bytes")
        }
        guard try readPlain(name, path, codec, into: buffer) else { return nil }
        return (path, summary)
    }

    /// `fetch` of what must be there: throws `segmentMissing` when it is not.
    package func fetchExisting(_ name: SegmentName) throws -> [UInt8] {
        guard let bytes = try fetch(name) else { throw RepositoryError.segmentMissing(name) }
        return bytes
    }

    /// `true` when a segment and its summary are there; nothing is read of them.
    package func holds(_ name: SegmentName) throws -> Bool {
        try stored(name) != nil && store.describe(layout.summary(name)) != nil
    }

    private func stored(_ name: SegmentName) throws -> (ObjectPath, Codec)? {
        // The codec that this configuration writes is the likely one.
        for codec in [compression.codec] + Codec.allCases.filter({ $0 != compression.codec }) {
            let path = layout.segment(name, codec)
            if try store.describe(path) != nil { return (path, codec) }
        }
        return nil
    }

    /// Decompressed into exactly the bytes of a segment; `false` when the object has gone.
    func readPlain(
        _ name: SegmentName, _ path: ObjectPath, _ codec: Codec, into buffer: SegmentBuffer
    ) throws -> Bool {
        func damaged(_ why: String) -> RepositoryError {
            .segmentDamaged(name, object: layout.relative(path), why: why)
        }
        let stored: [UInt8]?
        do throws(StoreError) {
            stored = try store.read(path, limit: Codec.compressedBound(SegmentNumber.bytes))
        } catch {
            guard isDamage(error) else { throw error }
            throw damaged(error.diagnosis.why ?? "it cannot be read")
        }
        guard let stored else { return false }
        guard !stored.isEmpty else { throw damaged("it is empty") }
        let bytes = SegmentNumber.bytes
        if codec == .none {
            guard stored.count == bytes else { throw damaged("it has \(stored.count) bytes instead of \(bytes)") }
            buffer.fill(bytes) { target in stored.withUnsafeBytes { target.copyMemory(from: $0) } }
            return true
        }
        do {
            let decompressor = try Decompressor(codec)
            try buffer.fill(bytes) { target in
                try stored.withUnsafeBytes { try decompressor.decompress($0, into: target) }
            }
            return true
        } catch ArchiveError.codec(let why) {
            throw damaged("it cannot be decompressed (\(printable(why)))")
        }
    }

    func requireDigest(
        _ name: SegmentName, _ path: ObjectPath, _ bytes: UnsafeRawBufferPointer, _ summary: SegmentSummary
    ) throws {
        let digest = SHA256Digest(of: bytes)
        if digest == summary.sha256 { return }
        var why = "its SHA-256 is \(digest), its summary says \(summary.sha256)"
        if let other = try neighbour(of: name, holding: digest) { why = "it holds the bytes of segment \(other)" }
        throw RepositoryError.segmentDamaged(name, object: layout.relative(path), why: why)
    }

    /// Whose bytes these are, when it is the segment before or behind: what an exchange by hand looks like.
    private func neighbour(of name: SegmentName, holding digest: SHA256Digest) throws -> SegmentName? {
        var numbers = [name.segment.next]
        if name.segment.rawValue > 0 { numbers.append(SegmentNumber(name.segment.rawValue - 1)) }
        for number in numbers {
            let other = SegmentName(timeline: name.timeline, segment: number)
            // A neighbour whose summary is damaged too says nothing about this one.
            if let summary = try? summary(other), summary.sha256 == digest { return other }
        }
        return nil
    }
}
