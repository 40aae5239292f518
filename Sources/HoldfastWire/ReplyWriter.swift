import Glibc

/// Builds replies (and, for clients, requests) in one growable piece of memory that it owns.
///
/// One owner, one thread at a time. Text of simple strings and errors must hold neither CR nor LF; errors have
/// theirs replaced.
package final class ReplyWriter {
    package private(set) var count = 0
    private var memory: UnsafeMutableRawPointer
    private var capacity: Int
    /// RESP 3 has maps and a null of its own; RESP 2 gets flat arrays and null bulk strings.
    package var version: WireVersion

    package init(version: WireVersion = .resp2, capacity: Int = 1024) {
        self.version = version
        self.capacity = max(capacity, 64)
        memory = UnsafeMutableRawPointer.allocate(byteCount: self.capacity, alignment: 16)
    }

    deinit { memory.deallocate() }

    /// What has been written; valid until the next change.
    package var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: memory, count: count) }

    /// Takes back everything behind the first `count` bytes.
    package func truncate(to count: Int) {
        precondition(count <= self.count)
        self.count = count
    }

    /// Empties it; memory beyond `keeping` bytes is given back.
    package func clear(keeping: Int = 256 << 10) {
        count = 0
        guard capacity > keeping else { return }
        memory.deallocate()
        capacity = 1024
        memory = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 16)
    }

    @inline(__always)
    private func reserve(_ more: Int) {
        if capacity - count < more { grow(more) }
    }

    private func grow(_ more: Int) {
        let size = max(capacity * 2, count + more)
        let larger = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 16)
        larger.copyMemory(from: memory, byteCount: count)
        memory.deallocate()
        memory = larger
        capacity = size
    }

    @inline(__always)
    private func put(_ byte: UInt8) {
        memory.storeBytes(of: byte, toByteOffset: count, as: UInt8.self)
        count &+= 1
    }

    /// A type byte, a number, CRLF.
    private func header(_ type: UInt8, _ value: Int64) {
        reserve(24)
        put(type)
        digits(value)
        put(0x0D)
        put(0x0A)
    }

    private func digits(_ value: Int64) {
        var magnitude = value.magnitude
        if value < 0 { put(0x2D) }
        if magnitude < 10 {
            put(0x30 &+ UInt8(truncatingIfNeeded: magnitude))
            return
        }
        var length = 0
        var probe = magnitude
        while probe > 0 {
            probe /= 10
            length &+= 1
        }
        var at = count &+ length
        count = at
        while magnitude > 0 {
            at &-= 1
            memory.storeBytes(of: 0x30 &+ UInt8(truncatingIfNeeded: magnitude % 10), toByteOffset: at, as: UInt8.self)
            magnitude /= 10
        }
    }

    /// Bytes as they are, for what has been encoded elsewhere.
    package func raw(_ bytes: UnsafeRawBufferPointer) {
        guard let base = bytes.baseAddress, bytes.count > 0 else { return }
        reserve(bytes.count)
        (memory + count).copyMemory(from: base, byteCount: bytes.count)
        count &+= bytes.count
    }

    package func raw(_ other: ReplyWriter) { raw(other.bytes) }

    private func line(_ type: UInt8, _ text: String) {
        var text = text
        text.withUTF8 { utf8 in
            reserve(utf8.count + 3)
            put(type)
            for byte in utf8 { put(byte == 0x0D || byte == 0x0A ? 0x20 : byte) }
            put(0x0D)
            put(0x0A)
        }
    }

    /// `+text`
    package func simple(_ text: String) { line(0x2B, text) }

    /// `+OK`, the commonest of them.
    package func ok() {
        reserve(5)
        // "+OK\r\n", little end first.
        memory.storeBytes(of: 0x0D4B_4F2B, toByteOffset: count, as: UInt32.self)
        memory.storeBytes(of: 0x0A, toByteOffset: count &+ 4, as: UInt8.self)
        count &+= 5
    }

    /// `-text`, where text begins with a code in capitals: `ERR syntax error`.
    package func error(_ text: String) { line(0x2D, text) }

    package func integer(_ value: Int64) { header(0x3A, value) }
    package func integer(_ value: Int) { header(0x3A, Int64(value)) }

    package func bulk(_ bytes: UnsafeRawBufferPointer) {
        header(0x24, Int64(bytes.count))
        reserve(bytes.count + 2)
        if let base = bytes.baseAddress, bytes.count > 0 {
            (memory + count).copyMemory(from: base, byteCount: bytes.count)
            count &+= bytes.count
        }
        put(0x0D)
        put(0x0A)
    }

    package func bulk(_ bytes: [UInt8]) { bytes.withUnsafeBytes { bulk($0) } }

    package func bulk(_ text: String) {
        var text = text
        text.withUTF8 { bulk(UnsafeRawBufferPointer($0)) }
    }

    /// "There is none": a null bulk string, `_` in RESP 3.
    package func null() {
        if version == .resp3 { nullOfThree() } else { header(0x24, -1) }
    }

    /// The null array of RESP 2 (`EXEC` of a transaction that was given up), `_` in RESP 3.
    package func nullArray() {
        if version == .resp3 { nullOfThree() } else { header(0x2A, -1) }
    }

    private func nullOfThree() {
        reserve(3)
        put(0x5F)
        put(0x0D)
        put(0x0A)
    }

    /// `#t` in RESP 3, 1 in RESP 2.
    package func boolean(_ value: Bool) {
        guard version == .resp3 else { return integer(value ? 1 : 0) }
        reserve(4)
        put(0x23)
        put(value ? 0x74 : 0x66)
        put(0x0D)
        put(0x0A)
    }

    /// The head of an array of `count` values, which follow.
    package func array(_ count: Int) { header(0x2A, Int64(count)) }

    /// The head of a map of `count` pairs, which follow as key, value, key, value.
    package func map(_ count: Int) {
        if version == .resp3 { header(0x25, Int64(count)) } else { header(0x2A, Int64(count) * 2) }
    }

    /// The head of a set of `count` values; an array in RESP 2.
    package func set(_ count: Int) { header(version == .resp3 ? 0x7E : 0x2A, Int64(count)) }

    /// The head of a push of `count` values: RESP 3 only, since who speaks RESP 2 takes it for a reply.
    package func push(_ count: Int) { header(0x3E, Int64(count)) }

    /// Text for people (`INFO`): a verbatim string in RESP 3.
    package func verbatim(_ text: String) {
        guard version == .resp3 else { return bulk(text) }
        var text = text
        text.withUTF8 { utf8 in
            header(0x3D, Int64(utf8.count + 4))
            reserve(utf8.count + 6)
            for byte in [0x74, 0x78, 0x74, 0x3A] as [UInt8] { put(byte) }
            raw(UnsafeRawBufferPointer(utf8))
            reserve(2)
            put(0x0D)
            put(0x0A)
        }
    }

    /// A request: an array of bulk strings.
    package func request(_ arguments: [[UInt8]]) {
        array(arguments.count)
        for argument in arguments { bulk(argument) }
    }

    package func request(_ words: [String]) {
        array(words.count)
        for word in words { bulk(word) }
    }
}
