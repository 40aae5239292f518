/// Reads a tar stream that is held in memory, strictly: what `TarWriter` writes and any plain pax
/// archive of files and directories. Everything else is an error that names the member: names that
/// lead elsewhere, links, devices, sparse files, other numbers than octal, duplicates, bad checksums.
package struct TarReader {
    package struct Entry: Sendable, Equatable {
        package var path: String
        package var kind: TarWriter.Kind
        package var size: UInt64
        package var modified: Int64
    }

    /// Records of pax global headers seen so far.
    package private(set) var globals: [String: String] = [:]
    /// Both blocks of zeros were read.
    package private(set) var hasEnded = false

    private let bytes: [UInt8]
    private var at = 0
    private var pending: UInt64 = 0
    private var seen: Set<String> = []
    private let archive: Int
    private let streamOffset: UInt64
    private static let largestPaxBytes: UInt64 = 64 << 10

    /// `archive` and `streamOffset` say where the bytes come from, for messages only.
    package init(_ bytes: [UInt8], archive: Int = 0, streamOffset: UInt64 = 0) {
        self.bytes = bytes
        self.archive = archive
        self.streamOffset = streamOffset
    }

    package var remaining: Int { bytes.count - at }

    /// The next member's header; `nil` at the end of the archive. The content of the one before is
    /// skipped if it was not read.
    package mutating func next() throws(ArchiveError) -> Entry? {
        try skipContent()
        var path: String?
        var size: UInt64?
        while true {
            if hasEnded { return nil }
            let start = at
            guard remaining >= TarWriter.blockBytes else { throw malformed("it ends within a header", start) }
            let header = bytes[at..<at + TarWriter.blockBytes]
            at += TarWriter.blockBytes
            if header.allSatisfy({ $0 == 0 }) {
                guard remaining >= TarWriter.blockBytes, bytes[at..<at + TarWriter.blockBytes].allSatisfy({ $0 == 0 })
                else { throw malformed("a single block of zeros", start) }
                guard bytes[at...].allSatisfy({ $0 == 0 }) else { throw malformed("bytes behind its end", at) }
                guard path == nil, size == nil else { throw malformed("it ends behind a pax header", start) }
                at = bytes.count
                hasEnded = true
                return nil
            }
            try checkFrame(header, start)
            let base = header.startIndex
            let type = header[base + 156]
            let declared = try octal(header[base + 124..<base + 136], "size", start)
            if type == UInt8(ascii: "x") || type == UInt8(ascii: "g") {
                for (key, value) in try paxRecords(declared, start) {
                    if type == UInt8(ascii: "g") {
                        globals[key] = value
                    } else if key == "path" {
                        path = value
                    } else if key == "size" {
                        guard let number = UInt64(value), number <= UInt64(Int64.max), !value.hasPrefix("+") else {
                            throw malformed("a pax size that is no number of bytes", start)
                        }
                        size = number
                    } else if !["mtime", "atime", "ctime", "uid", "gid", "uname", "gname", "comment"].contains(key) {
                        throw malformed("a pax record of unknown meaning", start)
                    }
                }
                continue
            }
            return try member(header, path: path, size: size ?? declared, type: type, start)
        }
    }

    /// The content of the member that `next` gave last.
    package mutating func content() throws(ArchiveError) -> ArraySlice<UInt8> {
        guard pending <= UInt64(remaining) else { throw malformed("it ends within a member's content", at) }
        return bytes[at..<at + Int(pending)]
    }

    private mutating func skipContent() throws(ArchiveError) {
        let padded = pending + UInt64(TarWriter.padding(after: pending))
        guard padded <= UInt64(remaining) else { throw malformed("it ends within a member's content", at) }
        let padding = bytes[(at + Int(pending))..<(at + Int(padded))]
        guard padding.allSatisfy({ $0 == 0 }) else { throw malformed("padding that is not zeros", at) }
        at += Int(padded)
        pending = 0
    }

    private mutating func member(
        _ header: ArraySlice<UInt8>, path: String?, size: UInt64, type: UInt8, _ start: Int
    ) throws(ArchiveError) -> Entry {
        let base = header.startIndex
        var name: [UInt8]
        if let path {
            name = Array(path.utf8)
        } else {
            let prefix = try text(header[base + 345..<base + 500], start)
            name = (prefix.isEmpty ? [] : prefix + [UInt8(ascii: "/")]) + (try text(header[base..<base + 100], start))
        }
        let shown = String(decoding: name, as: UTF8.self)
        let kind: TarWriter.Kind
        switch type {
        case UInt8(ascii: "0"), 0: kind = .file
        case UInt8(ascii: "5"): kind = .directory
        case UInt8(ascii: "1"), UInt8(ascii: "2"): throw .badMember(name: shown, why: "it is a link")
        case UInt8(ascii: "3"), UInt8(ascii: "4"), UInt8(ascii: "6"):
            throw .badMember(name: shown, why: "it is a device or pipe")
        default: throw .badMember(name: shown, why: "it is of type \(type), not a file or directory")
        }
        if kind == .directory {
            guard size == 0 else { throw .badMember(name: shown, why: "a directory with content") }
            if name.last == UInt8(ascii: "/") { name.removeLast() }
        }
        if let why = MemberName.refusal(name) { throw .badMember(name: shown, why: why) }
        guard let clean = String(validating: name, as: UTF8.self) else {
            throw .badMember(name: shown, why: "the name is not UTF-8")
        }
        // The link name must be empty: a file that bears one is not what it says.
        guard header[base + 157..<base + 257].allSatisfy({ $0 == 0 }) else {
            throw .badMember(name: shown, why: "it carries a link's target")
        }
        guard size <= UInt64(Int64.max) else { throw .badMember(name: shown, why: "impossible size \(size)") }
        guard seen.insert(clean).inserted else { throw .badMember(name: shown, why: "it occurs twice") }
        pending = size
        let modified = try octal(header[base + 136..<base + 148], "time", start)
        return Entry(path: clean, kind: kind, size: size, modified: Int64(modified))
    }

    private func checkFrame(_ header: ArraySlice<UInt8>, _ start: Int) throws(ArchiveError) {
        let base = header.startIndex
        guard header[base + 257..<base + 265].elementsEqual("ustar\u{0}00".utf8) else {
            throw malformed("no ustar header where one must be", start)
        }
        let stored = try octal(header[base + 148..<base + 156], "checksum", start)
        var sum: UInt64 = 8 * 0x20
        for (index, byte) in header.enumerated() where !(148..<156).contains(index) { sum += UInt64(byte) }
        guard sum == stored else { throw malformed("a header's checksum does not match", start) }
    }

    private mutating func paxRecords(_ size: UInt64, _ start: Int) throws(ArchiveError) -> [(String, String)] {
        guard size <= Self.largestPaxBytes else { throw malformed("a pax header of \(size) bytes", start) }
        pending = size
        let body = try content()
        try skipContent()
        var records: [(String, String)] = []
        var at = body.startIndex
        while at < body.endIndex {
            guard let space = body[at...].prefix(8).firstIndex(of: UInt8(ascii: " ")),
                body[at..<space].allSatisfy({ (48...57).contains($0) }),
                let length = Int(String(decoding: body[at..<space], as: UTF8.self)),
                length > space - at + 1, length <= body.endIndex - at,
                body[at + length - 1] == UInt8(ascii: "\n"),
                let equals = body[space..<at + length - 1].firstIndex(of: UInt8(ascii: "=")),
                let key = String(validating: body[space + 1..<equals], as: UTF8.self), !key.isEmpty,
                let value = String(validating: body[equals + 1..<at + length - 1], as: UTF8.self)
            else { throw malformed("a pax header with a malformed record", start) }
            records.append((key, value))
            at += length
        }
        return records
    }

    /// Digits, then NULs or spaces. Base-256 numbers are refused with the rest.
    private func octal(_ field: ArraySlice<UInt8>, _ what: String, _ start: Int) throws(ArchiveError) -> UInt64 {
        var value: UInt64 = 0
        let digits = field.prefix { (48...55).contains($0) }
        for digit in digits { value = value << 3 | UInt64(digit - 48) }
        guard !digits.isEmpty, field.dropFirst(digits.count).allSatisfy({ $0 == 0 || $0 == 0x20 }) else {
            throw malformed("a \(what) that is no octal number", start)
        }
        return value
    }

    /// What lies before the first NUL; only NULs may follow, since bytes behind one would be hidden.
    private func text(_ field: ArraySlice<UInt8>, _ start: Int) throws(ArchiveError) -> [UInt8] {
        let text = field.prefix { $0 != 0 }
        guard field.dropFirst(text.count).allSatisfy({ $0 == 0 }) else {
            throw .badMember(name: String(decoding: field, as: UTF8.self), why: "the name contains NUL")
        }
        return Array(text)
    }

    private func malformed(_ why: String, _ at: Int) -> ArchiveError {
        .badTar(archive: archive, offset: streamOffset + UInt64(at), why: why)
    }
}
