import HoldfastCore

/// Writes tar headers as POSIX defines them: ustar (`POSIX.1-1988`), and a pax extended header
/// (`POSIX.1-2001`) in front of a member whose name or size does not fit.
///
/// A header of 512 bytes:
///
///     offset  bytes  field                     offset  bytes  field
///          0    100  name                         156      1  type: 0 file, 5 directory, x, g
///        100      8  mode, octal                  157    100  link name (empty)
///        108      8  user id, octal               257      6  "ustar" NUL
///        116      8  group id, octal              263      2  "00"
///        124     12  size, octal                  265     80  user, group names; device numbers (empty)
///        136     12  modified, octal seconds      345    155  prefix: the name's first parts
///        148      8  checksum: sum of all bytes, this field taken as spaces
package enum TarWriter {
    package static let blockBytes = 512
    /// Two blocks of zeros.
    package static let endOfArchiveBytes = 1024
    /// The namespace of our records in the pax global header.
    package static let vendor = "HOLDFAST."
    static let largestOctalSize: UInt64 = 1 << 33 - 1

    package enum Kind: Sendable, Equatable {
        case file
        case directory
    }

    /// Bytes of zeros that follow `size` bytes of content.
    package static func padding(after size: UInt64) -> Int { Int((512 - size % 512) % 512) }

    /// The header, or headers, in front of a member's content. Files get mode 0600, directories 0700.
    package static func header(
        path: String, kind: Kind, size: UInt64, modified: Int64
    ) throws(ArchiveError) -> [UInt8] {
        if let why = MemberName.refusal(path.utf8) { throw .badMember(name: path, why: why) }
        var records: [(String, String)] = []
        var name = Array(path.utf8)
        if kind == .directory { name.append(UInt8(ascii: "/")) }
        var prefix: [UInt8] = []
        if name.count > 100 {
            if let (front, back) = split(name) {
                prefix = front
                name = back
            } else {
                records.append(("path", path + (kind == .directory ? "/" : "")))
                name = Array(name.prefix(100))
            }
        }
        if size > largestOctalSize { records.append(("size", String(size))) }
        var bytes: [UInt8] = []
        if !records.isEmpty { bytes += paxHeader(records, type: "x", name: "PaxHeaders/member") }
        bytes += block(
            name: name, prefix: prefix, mode: kind == .file ? 0o600 : 0o700,
            size: size > largestOctalSize ? 0 : size, modified: modified, type: kind == .file ? "0" : "5")
        return bytes
    }

    /// The pax global header that says which backup this is.
    package static func globalHeader(_ tag: ArchiveTag, archive: Int) -> [UInt8] {
        paxHeader(
            [
                (vendor + "format", "1"),
                (vendor + "backup_id", tag.backupID),
                (vendor + "system_identifier", tag.systemIdentifier.description),
                (vendor + "timeline", tag.timeline.description),
                (vendor + "start_lsn", tag.startLSN.description),
                (vendor + "archive", String(archive)),
            ], type: "g", name: "pax_global_header")
    }

    /// The last slash that leaves at most 155 bytes before and 1 to 100 behind it.
    private static func split(_ name: [UInt8]) -> ([UInt8], [UInt8])? {
        for at in stride(from: min(155, name.count - 2), through: 1, by: -1)
        where name[at] == UInt8(ascii: "/") {
            guard name.count - at - 1 <= 100 else { return nil }
            return (Array(name[..<at]), Array(name[(at + 1)...]))
        }
        return nil
    }

    private static func paxHeader(_ records: [(String, String)], type: Unicode.Scalar, name: String) -> [UInt8] {
        let body = records.flatMap { paxRecord($0.0, $0.1) }
        return block(
            name: Array(name.utf8), prefix: [], mode: 0o600, size: UInt64(body.count), modified: 0, type: type) + body
            + [UInt8](repeating: 0, count: padding(after: UInt64(body.count)))
    }

    /// `length key=value\n`, where the length counts itself.
    static func paxRecord(_ key: String, _ value: String) -> [UInt8] {
        let rest = key.utf8.count + value.utf8.count + 3
        var length = rest + String(rest).utf8.count
        if rest + String(length).utf8.count > length { length += 1 }
        return Array("\(length) \(key)=\(value)\n".utf8)
    }

    static func block(
        name: [UInt8], prefix: [UInt8], mode: Int, size: UInt64, modified: Int64, type: Unicode.Scalar
    ) -> [UInt8] {
        var block = [UInt8](repeating: 0, count: blockBytes)
        func put(_ bytes: some Sequence<UInt8>, at offset: Int) {
            for (index, byte) in bytes.enumerated() { block[offset + index] = byte }
        }
        func octal(_ value: UInt64, digits: Int) -> [UInt8] {
            let text = String(value, radix: 8)
            return Array((String(repeating: "0", count: max(0, digits - text.utf8.count)) + text).utf8)
        }
        put(name, at: 0)
        put(octal(UInt64(mode), digits: 7), at: 100)
        put(octal(0, digits: 7), at: 108)
        put(octal(0, digits: 7), at: 116)
        put(octal(size, digits: 11), at: 124)
        put(octal(UInt64(clamping: min(max(0, modified), Int64(largestOctalSize))), digits: 11), at: 136)
        put(repeatElement(UInt8(ascii: " "), count: 8), at: 148)
        put([UInt8(ascii: type)], at: 156)
        put("ustar\u{0}00".utf8, at: 257)
        put(prefix, at: 345)
        put(octal(UInt64(block.reduce(0) { $0 + Int($1) }), digits: 6) + [0], at: 148)
        return block
    }
}
