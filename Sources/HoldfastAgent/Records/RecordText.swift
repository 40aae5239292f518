import HoldfastCore

/// The text form of records that `dump` writes and `load` reads: one a line, `key<TAB>value`, in bytewise order of keys.
///
/// Escapes are `\\ \t \n \r \xHH`. `dump` escapes every byte that is not printable ASCII, so that equal records are
/// equal lines and nothing in a dump can harm a terminal; `load` also takes bytes of 80 and above as they are.
package enum RecordText {
    /// Appends `bytes`, escaped.
    package static func append(_ bytes: UnsafeRawBufferPointer, to out: inout [UInt8]) {
        for byte in bytes {
            switch byte {
            case 0x5C: out += [0x5C, 0x5C]
            case 0x09: out += [0x5C, 0x74]
            case 0x0A: out += [0x5C, 0x6E]
            case 0x0D: out += [0x5C, 0x72]
            case 0x20...0x7E: out.append(byte)
            default: out += [0x5C, 0x78, digit(byte >> 4), digit(byte & 15)]
            }
        }
    }

    /// A record's line, with its line feed.
    package static func append(
        key: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer, to out: inout [UInt8]
    ) {
        append(key, to: &out)
        out.append(0x09)
        append(value, to: &out)
        out.append(0x0A)
    }

    /// Bytes as text: as they are when they are printable, escaped otherwise.
    package static func text(of bytes: [UInt8]) -> String {
        var out: [UInt8] = []
        bytes.withUnsafeBytes { append($0, to: &out) }
        return String(decoding: out, as: UTF8.self)
    }

    /// Reads a line without its line feed. The error says what is wrong with it.
    package static func record(
        _ line: some Collection<UInt8>
    ) throws(Fault) -> (key: [UInt8], value: [UInt8]) {
        var key: [UInt8]?
        var part: [UInt8] = []
        part.reserveCapacity(line.count)
        var at = line.startIndex
        func next() throws(Fault) -> UInt8 {
            at = line.index(after: at)
            guard at < line.endIndex else { throw Fault(why: "it ends inside an escape") }
            return line[at]
        }
        while at < line.endIndex {
            switch line[at] {
            case 0x5C:
                switch try next() {
                case 0x5C: part.append(0x5C)
                case 0x74: part.append(0x09)
                case 0x6E: part.append(0x0A)
                case 0x72: part.append(0x0D)
                case 0x78:
                    guard let high = nibble(try next()), let low = nibble(try next()) else {
                        throw Fault(why: "\\x is not followed by two hex digits")
                    }
                    part.append(high << 4 | low)
                default: throw Fault(why: "it has an unknown escape")
                }
            case 0x09:
                guard key == nil else { throw Fault(why: "it has more than one tab") }
                key = part
                part = []
            case 0x00...0x1F, 0x7F: throw Fault(why: "it has a control character that is not escaped")
            default: part.append(line[at])
            }
            at = line.index(after: at)
        }
        guard let key else { throw Fault(why: "it has no tab between key and value") }
        return (key, part)
    }

    package struct Fault: Error, Equatable {
        package var why: String
    }

    private static func digit(_ value: UInt8) -> UInt8 { value < 10 ? 48 + value : 55 + value }

    private static func nibble(_ byte: UInt8) -> UInt8? {
        switch byte {
        case 48...57: byte - 48
        case 65...70: byte - 55
        case 97...102: byte - 87
        default: nil
        }
    }
}
