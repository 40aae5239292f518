import HoldfastCore

/// A batch of records on its way to the disk: the bytes as they will lie in the segments, in chunks that are
/// each contiguous in one segment. Owned by the writer: filled under its lock, then by one flusher alone.
final class LogBuffer {
    struct Chunk {
        /// Where its first byte belongs.
        var lsn: LSN
        /// Where its first byte lies in the buffer.
        var offset: Int
        var bytes = 0
        /// Zero bytes that follow in the segment and are not held in memory: a closing filler's body.
        var fill = 0
        var end: LSN { lsn + bytes + fill }
    }

    let base: UnsafeMutableRawPointer
    let capacity: Int
    private(set) var used = 0
    private(set) var chunks: [Chunk] = []

    init(capacity: Int) {
        self.capacity = capacity
        base = .allocate(byteCount: capacity, alignment: 4096)
        chunks.reserveCapacity(8)
    }

    deinit { base.deallocate() }

    var free: Int { capacity - used }
    var isEmpty: Bool { chunks.isEmpty }

    /// Room for `bytes` that belong at `lsn`, which is where the last ones ended or a segment's start.
    func extend(at lsn: LSN, bytes: Int) -> UnsafeMutableRawPointer {
        precondition(bytes <= free, "the caller makes room first")
        if chunks.isEmpty || LogLayout.offset(lsn) == 0 {
            chunks.append(Chunk(lsn: lsn, offset: used))
        } else {
            assert(chunks[chunks.count - 1].end == lsn)
        }
        let place = base + used
        used += bytes
        chunks[chunks.count - 1].bytes += bytes
        return place
    }

    /// Zeros up to the segment's end.
    func fill(_ bytes: Int) { chunks[chunks.count - 1].fill += bytes }

    func reset() {
        used = 0
        chunks.removeAll(keepingCapacity: true)
    }
}
