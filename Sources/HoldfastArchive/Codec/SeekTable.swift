/// The zstd seekable format's table (zstd, `contrib/seekable_format`): a skippable frame behind the
/// last frame, which stock zstd ignores and random-access readers use.
///
///     bytes  field, little-endian
///         4  0x184D2A5E, a skippable frame
///         4  bytes that follow
///       8 n  for each frame: compressed bytes, uncompressed bytes
///         4  number of frames
///         1  descriptor: 0, no checksums (the frames carry their own)
///         4  0x8F92EAB1
enum SeekTable {
    static func bytes(of frames: ArraySlice<FrameIndex.Frame>) -> [UInt8] {
        var writer = ByteWriter(reserving: frames.count * 8 + 17)
        writer.append(UInt32(0x184D_2A5E))
        writer.append(UInt32(frames.count * 8 + 9))
        for frame in frames {
            writer.append(UInt32(frame.compressedBytes))
            writer.append(UInt32(frame.bytes))
        }
        writer.append(UInt32(frames.count))
        writer.append(UInt8(0))
        writer.append(UInt32(0x8F92_EAB1))
        return writer.bytes
    }
}
