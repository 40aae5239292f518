import CZlib

#if canImport(CIsal)
    import CIsal
#endif

/// One gzip member (RFC 1952) for each call.
protocol GzipCompressor: AnyObject {
    func compress(
        _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
    ) throws(ArchiveError) -> Int
}

protocol GzipDecompressor: AnyObject {
    func decompress(_ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer) throws(ArchiveError)
}

func makeGzipCompressor(level: Int) throws(ArchiveError) -> any GzipCompressor {
    #if canImport(CIsal)
        if level <= 3 { return IsalCompressor(level: level) }
    #endif
    return try ZlibCompressor(level: max(1, level))
}

func makeGzipDecompressor() throws(ArchiveError) -> any GzipDecompressor {
    #if canImport(CIsal)
        return IsalDecompressor()
    #else
        return try ZlibDecompressor()
    #endif
}

#if canImport(CIsal)
    /// igzip. The stream is 82 KB: it lives on the heap and is never copied.
    final class IsalCompressor: GzipCompressor {
        /// Enough for levels 1 to 3: 64 Ki tokens of four bytes, and the hash tables of level 3.
        private static let levelBufferBytes = 352 << 10
        private let stream = UnsafeMutablePointer<isal_zstream>.allocate(capacity: 1)
        private let levelBuffer = UnsafeMutablePointer<UInt8>.allocate(capacity: levelBufferBytes)
        private let level: UInt32

        init(level: Int) { self.level = UInt32(level) }

        deinit {
            stream.deallocate()
            levelBuffer.deallocate()
        }

        func compress(
            _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
        ) throws(ArchiveError) -> Int {
            isal_deflate_init(stream)
            stream.pointee.level = level
            stream.pointee.level_buf = level == 0 ? nil : levelBuffer
            stream.pointee.level_buf_size = level == 0 ? 0 : UInt32(Self.levelBufferBytes)
            stream.pointee.gzip_flag = UInt16(IGZIP_GZIP)
            stream.pointee.end_of_stream = 1
            stream.pointee.flush = UInt16(NO_FLUSH)
            // The library does not write to its input, whatever the type says.
            stream.pointee.next_in = UnsafeMutablePointer(
                mutating: source.baseAddress?.assumingMemoryBound(to: UInt8.self))
            stream.pointee.avail_in = UInt32(source.count)
            stream.pointee.next_out = target.baseAddress?.assumingMemoryBound(to: UInt8.self)
            stream.pointee.avail_out = UInt32(clamping: target.count)
            let code = isal_deflate(stream)
            guard code == COMP_OK, stream.pointee.avail_in == 0, stream.pointee.internal_state.state == ZSTATE_END
            else { throw .codec("igzip: status \(code)") }
            return Int(stream.pointee.total_out)
        }
    }

    final class IsalDecompressor: GzipDecompressor {
        private let state = UnsafeMutablePointer<inflate_state>.allocate(capacity: 1)

        deinit { state.deallocate() }

        func decompress(
            _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
        ) throws(ArchiveError) {
            isal_inflate_init(state)
            state.pointee.crc_flag = UInt32(ISAL_GZIP)
            state.pointee.next_in = UnsafeMutablePointer(
                mutating: source.baseAddress?.assumingMemoryBound(to: UInt8.self))
            state.pointee.avail_in = UInt32(source.count)
            state.pointee.next_out = target.baseAddress?.assumingMemoryBound(to: UInt8.self)
            state.pointee.avail_out = UInt32(target.count)
            let code = isal_inflate(state)
            guard code == ISAL_DECOMP_OK else { throw .codec("gzip: status \(code)") }
            guard state.pointee.block_state == ISAL_BLOCK_FINISH, state.pointee.avail_in == 0,
                Int(state.pointee.total_out) == target.count
            else { throw .codec("gzip: the member is not of the \(target.count) bytes that are promised") }
        }
    }
#endif

/// Window of 32 KiB, with gzip's header and trailer instead of zlib's.
private let gzipWindowBits: Int32 = 15 + 16

final class ZlibCompressor: GzipCompressor {
    private let stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)

    init(level: Int) throws(ArchiveError) {
        stream.initialize(to: z_stream())
        let code = deflateInit2_(
            stream, Int32(level), Z_DEFLATED, gzipWindowBits, 8, Z_DEFAULT_STRATEGY, ZLIB_VERSION,
            Int32(MemoryLayout<z_stream>.size))
        guard code == Z_OK else { throw .codec("zlib: status \(code)") }
    }

    deinit {
        deflateEnd(stream)
        stream.deallocate()
    }

    func compress(
        _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
    ) throws(ArchiveError) -> Int {
        deflateReset(stream)
        // zlib does not write to its input, whatever the type says.
        stream.pointee.next_in = UnsafeMutablePointer(
            mutating: source.baseAddress?.assumingMemoryBound(to: UInt8.self))
        stream.pointee.avail_in = UInt32(source.count)
        stream.pointee.next_out = target.baseAddress?.assumingMemoryBound(to: UInt8.self)
        stream.pointee.avail_out = UInt32(clamping: target.count)
        let code = deflate(stream, Z_FINISH)
        guard code == Z_STREAM_END else { throw .codec("zlib: status \(code)") }
        return Int(stream.pointee.total_out)
    }
}

final class ZlibDecompressor: GzipDecompressor {
    private let stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)

    init() throws(ArchiveError) {
        stream.initialize(to: z_stream())
        let code = inflateInit2_(stream, gzipWindowBits, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size))
        guard code == Z_OK else { throw .codec("zlib: status \(code)") }
    }

    deinit {
        inflateEnd(stream)
        stream.deallocate()
    }

    func decompress(
        _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
    ) throws(ArchiveError) {
        inflateReset(stream)
        stream.pointee.next_in = UnsafeMutablePointer(
            mutating: source.baseAddress?.assumingMemoryBound(to: UInt8.self))
        stream.pointee.avail_in = UInt32(source.count)
        stream.pointee.next_out = target.baseAddress?.assumingMemoryBound(to: UInt8.self)
        stream.pointee.avail_out = UInt32(target.count)
        let code = inflate(stream, Z_FINISH)
        guard code == Z_STREAM_END, stream.pointee.avail_in == 0, Int(stream.pointee.total_out) == target.count else {
            throw .codec("gzip: status \(code), not a member of the \(target.count) bytes that are promised")
        }
    }
}
