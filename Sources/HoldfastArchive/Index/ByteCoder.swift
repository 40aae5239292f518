/// Little-endian numbers behind one another.
struct ByteWriter {
    private(set) var bytes: [UInt8] = []

    init(reserving count: Int = 0) { bytes.reserveCapacity(count) }

    mutating func append(_ value: some FixedWidthInteger) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }

    mutating func append(_ more: [UInt8]) { bytes.append(contentsOf: more) }

    /// Two bytes of length, then UTF-8.
    mutating func append(text: String) {
        precondition(text.utf8.count <= Int(UInt16.max))
        append(UInt16(text.utf8.count))
        bytes.append(contentsOf: text.utf8)
    }
}

/// Reads what `ByteWriter` wrote. A count is compared with what is left before anything is made for it.
struct ByteReader {
    private let bytes: ArraySlice<UInt8>
    private var at: Int
    /// For messages: `frames.idx`.
    let object: String

    init(_ bytes: ArraySlice<UInt8>, object: String) {
        self.bytes = bytes
        at = bytes.startIndex
        self.object = object
    }

    var remaining: Int { bytes.endIndex - at }

    func damaged(_ why: String) -> ArchiveError { .damaged(object: object, why: why) }

    mutating func take(_ count: Int) throws(ArchiveError) -> ArraySlice<UInt8> {
        guard count >= 0, count <= remaining else {
            throw damaged("it ends at byte \(bytes.endIndex) where \(count) more are expected from \(at)")
        }
        defer { at += count }
        return bytes[at..<at + count]
    }

    mutating func read<T: FixedWidthInteger>(_ type: T.Type = T.self) throws(ArchiveError) -> T {
        let part = try take(MemoryLayout<T>.size)
        return T(littleEndian: part.withUnsafeBytes { $0.loadUnaligned(as: T.self) })
    }

    mutating func readText() throws(ArchiveError) -> String {
        let length = try read(UInt16.self)
        guard let text = String(validating: try take(Int(length)), as: UTF8.self) else {
            throw damaged("a name is not UTF-8")
        }
        return text
    }

    /// Throws unless `count` items of at least `itemBytes` each can still follow.
    func expect(count: UInt64, itemBytes: Int) throws(ArchiveError) -> Int {
        guard count <= UInt64(remaining / itemBytes) else {
            throw damaged("it claims \(count) entries but has \(remaining) bytes left")
        }
        return Int(count)
    }
}

/// The frame around our binary objects: magic, version, body, CRC32C of all before.
enum SealedObject {
    static func seal(_ writer: ByteWriter) -> [UInt8] {
        var writer = writer
        writer.append(CRC32C.of(writer.bytes))
        return writer.bytes
    }

    /// Checks magic, version and CRC, and gives a reader that stands behind the version.
    static func open(
        _ bytes: [UInt8], magic: String, version: UInt32, object: String
    ) throws(ArchiveError) -> ByteReader {
        guard bytes.count >= 16 else { throw .damaged(object: object, why: "only \(bytes.count) bytes") }
        guard bytes.prefix(8).elementsEqual(magic.utf8) else {
            throw .damaged(object: object, why: "it does not begin with \(magic)")
        }
        var trailer = ByteReader(bytes[(bytes.count - 4)...], object: object)
        let stored: UInt32 = try trailer.read()
        let computed = bytes.withUnsafeBytes { CRC32C.of(UnsafeRawBufferPointer(rebasing: $0.dropLast(4))) }
        var reader = ByteReader(bytes[8..<(bytes.count - 4)], object: object)
        let found: UInt32 = try reader.read()
        // A newer format may end otherwise: its version is told first.
        guard found == version else {
            if found > version, found < 1 << 16 {
                throw .newerFormat(object: object, version: found, supported: version)
            }
            throw .damaged(object: object, why: "unknown version \(found)")
        }
        guard stored == computed else { throw .damaged(object: object, why: "its checksum does not match") }
        return reader
    }
}
