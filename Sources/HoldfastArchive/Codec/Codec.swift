/// How frames are compressed. Stored by number in `frames.idx`: never renumber.
package enum Codec: UInt32, Sendable, CaseIterable {
    case none = 0
    case gzip = 1
    case zstd = 2

    /// What follows `.tar` in an archive's name.
    package var fileExtension: String {
        switch self {
        case .none: ""
        case .gzip: ".gz"
        case .zstd: ".zst"
        }
    }

    /// As configuration and JSON spell it.
    package var name: String {
        switch self {
        case .none: "none"
        case .gzip: "gzip"
        case .zstd: "zstd"
        }
    }

    package init?(name: String) {
        guard let codec = Self.allCases.first(where: { $0.name == name }) else { return nil }
        self = codec
    }

    /// More than any frame of `bytes` compresses to, whatever the level.
    package static func compressedBound(_ bytes: Int) -> Int { bytes + bytes / 64 + 1024 }
}

/// A codec and how hard it tries.
///
/// - zstd: -5 … 19; 1 is the default.
/// - gzip: 0 … 9. On x86-64 levels 0 to 3 are ISA-L's igzip, ten times as fast as zlib at nearly the
///   same ratio; all others, and all levels elsewhere, are zlib's (0 counts as 1 there).
/// - none: the level means nothing.
package struct Compression: Sendable, Equatable {
    package let codec: Codec
    package let level: Int

    package init(_ codec: Codec, level: Int = 1) {
        self.codec = codec
        self.level = level
    }

    /// Says why the level does not exist; `nil` when it does.
    package var refusal: String? {
        let levels: ClosedRange<Int> =
            switch codec {
            case .none: Int.min...Int.max
            case .gzip: 0...9
            case .zstd: -5...19
            }
        return levels.contains(level)
            ? nil : "\(codec.name) has levels \(levels.lowerBound) to \(levels.upperBound), not \(level)"
    }
}

/// Compresses one frame after the other, each readable by itself; keeps its context between them.
/// One thread at a time uses it.
package final class Compressor {
    private enum Engine {
        case none
        case zstd(ZstdCompressor)
        case gzip(any GzipCompressor)
    }
    private let engine: Engine

    package init(_ compression: Compression) throws(ArchiveError) {
        if let refusal = compression.refusal { throw .invalid(refusal) }
        switch compression.codec {
        case .none: engine = .none
        case .zstd: engine = .zstd(try ZstdCompressor(level: compression.level))
        case .gzip: engine = .gzip(try makeGzipCompressor(level: compression.level))
        }
    }

    /// Writes `source`, compressed as one zstd frame or one gzip member, to `target`, which has at least
    /// `Codec.compressedBound(source.count)` bytes; returns how many.
    package func compress(
        _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
    ) throws(ArchiveError) -> Int {
        precondition(target.count >= Codec.compressedBound(source.count))
        switch engine {
        case .none:
            target.copyMemory(from: source)
            return source.count
        case .zstd(let compressor): return try compressor.compress(source, into: target)
        case .gzip(let compressor): return try compressor.compress(source, into: target)
        }
    }
}

/// The inverse. It never writes or allocates beyond the buffer it is given, so that what is promised
/// for a frame bounds what a hostile one can do.
package final class Decompressor {
    private enum Engine {
        case none
        case zstd(ZstdDecompressor)
        case gzip(any GzipDecompressor)
    }
    private let engine: Engine

    package init(_ codec: Codec) throws(ArchiveError) {
        switch codec {
        case .none: engine = .none
        case .zstd: engine = .zstd(try ZstdDecompressor())
        case .gzip: engine = .gzip(try makeGzipDecompressor())
        }
    }

    /// Fills `target` exactly from the whole of `source`, or throws `ArchiveError.codec` with the reason.
    package func decompress(
        _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
    ) throws(ArchiveError) {
        switch engine {
        case .none:
            guard source.count == target.count else {
                throw .codec("\(source.count) bytes where \(target.count) are promised")
            }
            target.copyMemory(from: source)
        case .zstd(let decompressor): try decompressor.decompress(source, into: target)
        case .gzip(let decompressor): try decompressor.decompress(source, into: target)
        }
    }
}
