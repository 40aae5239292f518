import Glibc

/// A file's bytes in chunks of 8 KiB. A chunk of zeros that was never anything else is not held, so that a
/// zero-filled segment costs nothing and copies of a disk are cheap.
struct SparseBytes {
    static let chunk = 8192

    private(set) var count = 0
    /// By number; an empty one, or one behind the last, is not held.
    private var chunks: [[UInt8]] = []

    func holdsChunk(_ index: Int) -> Bool { index < chunks.count && !chunks[index].isEmpty }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) -> Int {
        let end = Swift.min(offset + buffer.count, count)
        var at = offset
        while at < end {
            let within = at % Self.chunk
            let n = Swift.min(Self.chunk - within, end - at)
            let target = UnsafeMutableRawBufferPointer(rebasing: buffer[(at - offset)..<(at - offset + n)])
            if holdsChunk(at / Self.chunk) {
                chunks[at / Self.chunk].withUnsafeBytes {
                    target.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[within..<within + n]))
                }
            } else {
                memset(target.baseAddress!, 0, n)
            }
            at += n
        }
        return Swift.max(0, end - offset)
    }

    func bytes(_ range: Range<Int>) -> [UInt8] {
        let range = Swift.min(range.lowerBound, count)..<Swift.min(range.upperBound, count)
        return [UInt8](unsafeUninitializedCapacity: range.count) { buffer, initialized in
            initialized = read(into: UnsafeMutableRawBufferPointer(buffer), at: range.lowerBound)
        }
    }

    mutating func write(_ source: UnsafeRawBufferPointer, at offset: Int) {
        count = Swift.max(count, offset + source.count)
        var at = offset
        while at < offset + source.count {
            let within = at % Self.chunk
            let n = Swift.min(Self.chunk - within, offset + source.count - at)
            let piece = UnsafeRawBufferPointer(rebasing: source[(at - offset)..<(at - offset + n)])
            let index = at / Self.chunk
            if holdsChunk(index) || !Self.isZero(piece) {
                while chunks.count <= index { chunks.append([]) }
                if chunks[index].isEmpty { chunks[index] = [UInt8](repeating: 0, count: Self.chunk) }
                chunks[index].withUnsafeMutableBytes {
                    UnsafeMutableRawBufferPointer(rebasing: $0[within..<within + n]).copyMemory(from: piece)
                }
            }
            at += n
        }
    }

    /// Compared with itself one byte on: `memcmp` is quick in a debug build too.
    private static func isZero(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard let base = bytes.baseAddress, bytes.count > 1 else { return bytes.first ?? 0 == 0 }
        return bytes[0] == 0 && memcmp(base, base + 1, bytes.count - 1) == 0
    }

    mutating func write(_ source: [UInt8], at offset: Int) {
        source.withUnsafeBytes { write($0, at: offset) }
    }

    mutating func resize(to size: Int) {
        if size < count {
            let last = size / Self.chunk
            if chunks.count > last + 1 { chunks.removeSubrange((last + 1)...) }
            if holdsChunk(last) {
                for at in (size % Self.chunk)..<Self.chunk { chunks[last][at] = 0 }
            }
        }
        count = size
    }
}
