import CShims

/// Takes small numbers off the front of an input: what a target lets the fuzzer choose beside the bytes to be read.
/// An input that is too short reads as zeros, so that every input means something.
struct FuzzInput {
    private(set) var rest: UnsafeRawBufferPointer

    init(_ bytes: UnsafeRawBufferPointer) { rest = bytes }

    var isEmpty: Bool { rest.isEmpty }

    mutating func byte() -> UInt8 {
        guard let first = rest.first else { return 0 }
        rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst())
        return first
    }

    mutating func short() -> Int {
        let low = Int(byte())
        return low | Int(byte()) << 8
    }

    mutating func long() -> UInt64 {
        var value: UInt64 = 0
        for shift in 0..<8 { value |= UInt64(byte()) << UInt64(8 * shift) }
        return value
    }

    /// The next bytes, at most `count`.
    mutating func take(_ count: Int) -> UnsafeRawBufferPointer {
        let part = UnsafeRawBufferPointer(rebasing: rest.prefix(count))
        rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(count))
        return part
    }
}

/// Makes inputs of the form that `FuzzInput` reads.
struct FuzzOutput {
    private(set) var bytes: [UInt8] = []

    mutating func add(byte: UInt8) { bytes.append(byte) }
    mutating func add(short: Int) {
        bytes += [UInt8(truncatingIfNeeded: short), UInt8(truncatingIfNeeded: short >> 8)]
    }
    mutating func add(long: UInt64) { withUnsafeBytes(of: long.littleEndian) { bytes.append(contentsOf: $0) } }
    mutating func add(_ more: some Sequence<UInt8>) { bytes.append(contentsOf: more) }
}

/// Puts the checksums right that would keep changed bytes out.
enum Stamp {
    /// CRC32C of `covered`, little-endian, at `offset`.
    static func crc(_ bytes: inout [UInt8], over covered: Range<Int>, at offset: Int) {
        let crc = bytes[covered].withUnsafeBytes { hf_crc32c(0, $0.baseAddress, $0.count) }
        withUnsafeBytes(of: crc.littleEndian) { bytes.replaceSubrange(offset..<offset + 4, with: $0) }
    }

    /// A text that ends with a line of its own for the checksum: that line is replaced.
    static func lastLine(_ bytes: [UInt8], _ line: (UInt32) -> String) -> [UInt8] {
        let body = bytes.dropLast().lastIndex(of: UInt8(ascii: "\n")).map { bytes[...$0] } ?? []
        let crc = body.withUnsafeBytes { hf_crc32c(0, $0.baseAddress, $0.count) }
        return Array(body) + Array((line(crc) + "\n").utf8)
    }
}

/// What must hold of bytes that a reader accepted.
@inline(__always)
func expect(_ holds: Bool, _ what: @autoclosure () -> String) {
    if !holds { fatalError("broken promise: " + what()) }
}
