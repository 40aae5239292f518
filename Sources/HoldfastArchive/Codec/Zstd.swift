import CZstd

/// A zstd context that is kept from frame to frame. Frames carry their content size and checksum.
final class ZstdCompressor {
    private let context: OpaquePointer

    init(level: Int) throws(ArchiveError) {
        guard let context = ZSTD_createCCtx() else { throw .codec("zstd: no memory for a context") }
        self.context = context
        for (parameter, value) in [(ZSTD_c_compressionLevel, level), (ZSTD_c_checksumFlag, 1)] {
            let code = ZSTD_CCtx_setParameter(context, parameter, Int32(value))
            guard ZSTD_isError(code) == 0 else { throw zstdError(code) }
        }
    }

    deinit { ZSTD_freeCCtx(context) }

    func compress(
        _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
    ) throws(ArchiveError) -> Int {
        let code = ZSTD_compress2(context, target.baseAddress, target.count, source.baseAddress, source.count)
        guard ZSTD_isError(code) == 0 else { throw zstdError(code) }
        return code
    }
}

final class ZstdDecompressor {
    private let context: OpaquePointer

    init() throws(ArchiveError) {
        guard let context = ZSTD_createDCtx() else { throw .codec("zstd: no memory for a context") }
        self.context = context
    }

    deinit { ZSTD_freeDCtx(context) }

    /// In one pass into `target`, which serves as the window: nothing is allocated for what a frame's
    /// header claims.
    func decompress(
        _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
    ) throws(ArchiveError) {
        let code = ZSTD_decompressDCtx(
            context, target.baseAddress, target.count, source.baseAddress, source.count)
        guard ZSTD_isError(code) == 0 else { throw zstdError(code) }
        guard code == target.count else { throw .codec("zstd: \(code) bytes where \(target.count) are promised") }
    }
}

private func zstdError(_ code: Int) -> ArchiveError { .codec("zstd: " + String(cString: ZSTD_getErrorName(code))) }
