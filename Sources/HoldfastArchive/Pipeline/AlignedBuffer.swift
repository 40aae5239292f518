/// Memory for one frame, aligned for O_DIRECT. Owned by whoever holds the reference.
///
/// `@unchecked Sendable`: it is handed from thread to thread under the pipeline's lock, and only its
/// present holder touches the bytes.
final class AlignedBuffer: @unchecked Sendable {
    static let alignment = 4096
    let bytes: UnsafeMutableRawBufferPointer

    init(_ count: Int) {
        bytes = .allocate(byteCount: count, alignment: Self.alignment)
    }

    deinit { bytes.deallocate() }
}
