/// Memory for the plain bytes of one WAL segment, used again for the next: the kernel zeroes fresh memory when it is
/// first touched, which for 16 MiB takes longer than to decompress a segment into them.
///
/// Whoever fills it has it alone; from then on it is only read.
public final class SegmentBuffer: @unchecked Sendable {
    // Sendable: see above. The memory is its own, from init to deinit.
    private let memory: UnsafeMutableRawBufferPointer
    /// How many bytes are filled.
    public private(set) var count = 0

    public init() { memory = .allocate(byteCount: SegmentNumber.bytes, alignment: 4096) }

    /// A copy of at most a segment's bytes.
    public convenience init(_ bytes: [UInt8]) {
        self.init()
        fill(bytes.count) { target in bytes.withUnsafeBytes { target.copyMemory(from: $0) } }
    }

    deinit { memory.deallocate() }

    /// Valid as long as the buffer is held and not filled again.
    public var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: memory[..<count]) }

    /// Hands out `count` bytes of undefined content to be written, all of them.
    @discardableResult
    public func fill<R>(_ count: Int, _ body: (UnsafeMutableRawBufferPointer) throws -> R) rethrows -> R {
        precondition(count <= memory.count)
        self.count = 0
        let result = try body(UnsafeMutableRawBufferPointer(rebasing: memory[..<count]))
        self.count = count
        return result
    }
}
