/// One reader of bytes from outside, and how it is given any bytes at all.
///
/// `run` must come back from every input, having found what is wrong with it or not: a trap, a wild access, a loop
/// without end or memory beyond what the input's length justifies is a defect of the reader. It also traps where a
/// reader accepts bytes and then breaks a promise about them (what it encodes again must read the same, for one).
///
/// Checksums would keep a fuzzer out: `run` tries the bytes as they are, and once more with the checksums put right.
package protocol FuzzTarget {
    /// As the command line calls it.
    static var name: String { get }
    /// Real encoders' bytes, in the form that `run` reads: what a fuzzer begins with.
    static func seeds() throws -> [[UInt8]]
    static func run(_ input: UnsafeRawBufferPointer)
}

package enum FuzzTargets {
    package static var all: [any FuzzTarget.Type] {
        [
            WALTarget.self, ApplyTarget.self, PagesTarget.self, RequestTarget.self, ReplyTarget.self,
            ControlTarget.self, HistoryTarget.self, LabelTarget.self, SummaryTarget.self, RecordTarget.self,
            IndexTarget.self, TarTarget.self, ManifestTarget.self, CodecTarget.self,
        ]
    }

    package static func named(_ name: String) -> (any FuzzTarget.Type)? { all.first { $0.name == name } }
}

extension FuzzTarget {
    /// The bytes in a piece of memory of just their size, so that a sanitizer sees whoever reads past it.
    package static func run(bytes: [UInt8]) {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
        defer { memory.deallocate() }
        memory.copyBytes(from: bytes)
        run(UnsafeRawBufferPointer(memory))
    }
}
