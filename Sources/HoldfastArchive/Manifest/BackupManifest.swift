import Crypto
import HoldfastCore

/// PostgreSQL's `backup_manifest`, version 1 (PostgreSQL 13 and later, `backup_manifest.c`): the files
/// of a restored directory with size and CRC32C, the WAL needed, and a SHA-256 over all text before
/// the last line. `pg_verifybackup -n` of PostgreSQL 15 accepts it.
///
///     { "PostgreSQL-Backup-Manifest-Version": 1,
///     "Files": [
///     { "Path": "backup_label", "Size": 224, "Last-Modified": "2026-11-24 02:15:00 GMT",
///       "Checksum-Algorithm": "CRC32C", "Checksum": "d2a1f3c4" }              (on one line)
///     ],
///     "WAL-Ranges": [
///     { "Timeline": 1, "Start-LSN": "0/2000028", "End-LSN": "0/2000100" }
///     ],
///     "Manifest-Checksum": "…64 hex digits…"}
///
/// The CRC is printed as its four bytes lie in the memory of a little-endian machine.
package struct BackupManifest: Sendable, Equatable {
    package static let objectName = "backup_manifest"
    private static let largestBytes = 64 << 20

    package struct File: Sendable, Equatable {
        package var path: String
        package var bytes: UInt64
        /// Seconds since 1970.
        package var modified: Int64
        package var crc: UInt32

        package init(path: String, bytes: UInt64, modified: Int64, crc: UInt32) {
            self.path = path
            self.bytes = bytes
            self.modified = modified
            self.crc = crc
        }
    }

    package struct WALRange: Sendable, Equatable {
        package var timeline: TimelineID
        package var start: LSN
        package var end: LSN

        package init(timeline: TimelineID, start: LSN, end: LSN) {
            self.timeline = timeline
            self.start = start
            self.end = end
        }
    }

    package var files: [File]
    package var walRanges: [WALRange]

    package init(files: [File], walRanges: [WALRange]) {
        self.files = files
        self.walRanges = walRanges
    }

    /// The text, byte for byte as PostgreSQL would write it. Paths must be safe member names.
    package func encoded() throws(ArchiveError) -> [UInt8] {
        var text = "{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": ["
        for (index, file) in files.enumerated() {
            if let why = MemberName.refusal(file.path.utf8) { throw .badMember(name: file.path, why: why) }
            guard !file.path.utf8.contains(where: { $0 == UInt8(ascii: "\"") || $0 >= 0x80 }) else {
                throw .badMember(name: file.path, why: "the manifest holds plain ASCII names only")
            }
            text += index == 0 ? "\n" : ",\n"
            text += "{ \"Path\": \"\(file.path)\", \"Size\": \(file.bytes), "
            text += "\"Last-Modified\": \"\(Self.format(seconds: file.modified))\", "
            text += "\"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"\(Self.hex(crc: file.crc))\" }"
        }
        text += "\n],\n\"WAL-Ranges\": ["
        for (index, range) in walRanges.enumerated() {
            text += index == 0 ? "\n" : ",\n"
            text += "{ \"Timeline\": \(range.timeline.rawValue), "
            text += "\"Start-LSN\": \"\(range.start)\", \"End-LSN\": \"\(range.end)\" }"
        }
        text += "\n],\n"
        let digest = SHA256.hash(data: Array(text.utf8)).map { Self.hex(byte: $0) }.joined()
        return Array((text + "\"Manifest-Checksum\": \"\(digest)\"}\n").utf8)
    }

    /// Reads what `encoded` writes and nothing else: after parsing, the text is made again and must be
    /// the same to the last byte, checksum included.
    package init(decoding bytes: [UInt8]) throws(ArchiveError) {
        func damaged(_ why: String) -> ArchiveError { .damaged(object: Self.objectName, why: why) }
        guard bytes.count <= Self.largestBytes else { throw damaged("\(bytes.count) bytes") }
        guard bytes.last == UInt8(ascii: "\n"),
            let start = bytes.dropLast().lastIndex(of: UInt8(ascii: "\n"))
        else { throw damaged("it is cut off") }
        let digest = SHA256.hash(data: bytes[...start]).map { Self.hex(byte: $0) }.joined()
        guard bytes[(start + 1)...].elementsEqual("\"Manifest-Checksum\": \"\(digest)\"}\n".utf8) else {
            throw damaged("its checksum does not match")
        }
        var scanner = Scanner(bytes[...start])
        var files: [File] = []
        var ranges: [WALRange] = []
        do {
            try scanner.expect("{ \"PostgreSQL-Backup-Manifest-Version\": ")
            let version = try scanner.number()
            guard version == 1 else {
                throw ArchiveError.newerFormat(
                    object: Self.objectName, version: UInt32(clamping: version), supported: 1)
            }
            try scanner.expect(",\n\"Files\": [\n")
            while !scanner.skip("],\n") && !scanner.skip("\n],\n") {
                if !files.isEmpty { try scanner.expect(",\n") }
                try scanner.expect("{ \"Path\": ")
                let path = try scanner.quoted()
                try scanner.expect(", \"Size\": ")
                let size = try scanner.number()
                try scanner.expect(", \"Last-Modified\": ")
                guard let modified = Self.parse(time: try scanner.quoted()) else { throw Malformed() }
                try scanner.expect(", \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": ")
                guard let crc = Self.parse(crc: try scanner.quoted()) else { throw Malformed() }
                try scanner.expect(" }")
                files.append(File(path: path, bytes: size, modified: modified, crc: crc))
            }
            try scanner.expect("\"WAL-Ranges\": [\n")
            while !scanner.skip("],\n") && !scanner.skip("\n],\n") {
                if !ranges.isEmpty { try scanner.expect(",\n") }
                try scanner.expect("{ \"Timeline\": ")
                let timeline = try scanner.number()
                try scanner.expect(", \"Start-LSN\": ")
                guard let from = LSN(try scanner.quoted()) else { throw Malformed() }
                try scanner.expect(", \"End-LSN\": ")
                guard let to = LSN(try scanner.quoted()), let timeline = UInt32(exactly: timeline) else {
                    throw Malformed()
                }
                try scanner.expect(" }")
                ranges.append(WALRange(timeline: TimelineID(timeline), start: from, end: to))
            }
        } catch let error as ArchiveError {
            throw error
        } catch {
            throw damaged("byte \(scanner.position) is not what a version 1 manifest has there")
        }
        self.init(files: files, walRanges: ranges)
        var paths: Set<String> = []
        for file in files where !paths.insert(file.path).inserted {
            throw .badMember(name: file.path, why: "the manifest lists it twice")
        }
        guard try encoded() == bytes else { throw damaged("it is not as this program writes it") }
    }

    private struct Malformed: Error {}

    private struct Scanner {
        private let bytes: ArraySlice<UInt8>
        private(set) var position: Int
        init(_ bytes: ArraySlice<UInt8>) {
            self.bytes = bytes
            position = bytes.startIndex
        }

        mutating func skip(_ text: StaticString) -> Bool {
            let matches = text.withUTF8Buffer { bytes[position...].starts(with: $0) }
            if matches { position += text.utf8CodeUnitCount }
            return matches
        }

        mutating func expect(_ text: StaticString) throws(Malformed) {
            guard skip(text) else { throw Malformed() }
        }

        mutating func number() throws(Malformed) -> UInt64 {
            let digits = bytes[position...].prefix(20).prefix { (48...57).contains($0) }
            guard let value = UInt64(String(decoding: digits, as: UTF8.self)) else { throw Malformed() }
            position += digits.count
            return value
        }

        mutating func quoted() throws(Malformed) -> String {
            try expect("\"")
            let text = bytes[position...].prefix(MemberName.maximumBytes + 1).prefix { $0 != UInt8(ascii: "\"") }
            position += text.count
            try expect("\"")
            guard let string = String(validating: text, as: UTF8.self) else { throw Malformed() }
            return string
        }
    }
}

extension BackupManifest {
    static func hex(byte: UInt8) -> String {
        let text = String(byte, radix: 16)
        return text.utf8.count == 1 ? "0" + text : text
    }

    static func hex(crc: UInt32) -> String {
        (0..<4).map { hex(byte: UInt8(truncatingIfNeeded: crc >> UInt32(8 * $0))) }.joined()
    }

    static func parse(crc text: String) -> UInt32? {
        guard text.utf8.count == 8 else { return nil }
        return parseHexadecimal(text, atMost: 8).map { UInt32($0).byteSwapped }
    }

    /// `2026-11-24 02:15:00 GMT`, for times from 1970 to 9999; others are clamped.
    static func format(seconds: Int64) -> String {
        let seconds = min(max(0, seconds), 253_402_300_799)
        let (days, rest) = (seconds / 86_400, seconds % 86_400)
        // Civil date from a day number (Hinnant): years begin in March, eras have 400 years.
        let shifted = days + 719_468
        let era = shifted / 146_097
        let dayOfEra = shifted % 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let month = (5 * dayOfYear + 2) / 153
        let day = dayOfYear - (153 * month + 2) / 5 + 1
        let civilMonth = month < 10 ? month + 3 : month - 9
        let year = era * 400 + yearOfEra + (civilMonth <= 2 ? 1 : 0)
        func two(_ value: Int64) -> String { value < 10 ? "0\(value)" : "\(value)" }
        return "\(year)-\(two(civilMonth))-\(two(day)) \(two(rest / 3600)):\(two(rest / 60 % 60)):\(two(rest % 60)) GMT"
    }

    static func parse(time text: String) -> Int64? {
        let parts = text.split(whereSeparator: { !("0"..."9").contains($0) }).map { Int64($0) }
        guard parts.count == 6, let year = parts[0], let month = parts[1], let day = parts[2], let hour = parts[3],
            let minute = parts[4], let second = parts[5], (1970...9999).contains(year), (1...12).contains(month),
            (1...31).contains(day), hour < 24, minute < 60, second < 60
        else { return nil }
        let shiftedYear = month <= 2 ? year - 1 : year
        let era = shiftedYear / 400
        let yearOfEra = shiftedYear % 400
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        let days = era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
        let seconds = days * 86_400 + hour * 3600 + minute * 60 + second
        return format(seconds: seconds) == text ? seconds : nil
    }
}
