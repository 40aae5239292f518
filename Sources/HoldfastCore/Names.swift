/// The names that people give: clusters, nodes, labels, restore points, slots.
/// `[A-Za-z0-9][A-Za-z0-9._-]{0,62}`: safe as a file name, an object name and on a terminal.
public enum ObjectName {
    /// `true` when `name` may be used; checked before any I/O.
    public static func isValid(_ name: some StringProtocol) -> Bool {
        let bytes = name.utf8
        guard let first = bytes.first, bytes.count <= 63, isAlphanumeric(first) else { return false }
        return bytes.allSatisfy { isAlphanumeric($0) || $0 == 0x2E || $0 == 0x5F || $0 == 0x2D }
    }

    private static func isAlphanumeric(_ byte: UInt8) -> Bool {
        (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte)
    }

    /// The diagnosis for a bad name; the name itself is shown escaped and cut.
    public static func refusal(_ name: String, of thing: String) -> Diagnosis {
        Diagnosis(
            "\(thing) name \"\(printable(name))\" is not allowed",
            why: "a name is 1 to 63 letters, digits, dots, underscores and hyphens, and begins with a letter or digit",
            next: "choose another name", status: .usage)
    }
}

/// Text from outside, safe to print: control characters and what is not ASCII are escaped, and it is cut at `limit`.
public func printable(_ text: some StringProtocol, limit: Int = 80) -> String {
    var out = ""
    for (count, scalar) in text.unicodeScalars.enumerated() {
        if count == limit { return out + "…" }
        switch scalar {
        case "\"", "\\": out += "\\" + String(scalar)
        case " "..."~": out.unicodeScalars.append(scalar)
        default: out += "\\u{" + String(scalar.value, radix: 16) + "}"
        }
    }
    return out
}

/// Bytes from outside, safe to print: as `printable`, with `\xHH` for what is not printable ASCII.
public func printable(bytes: some Sequence<UInt8>, limit: Int = 80) -> String {
    var out = ""
    for (count, byte) in bytes.enumerated() {
        if count == limit { return out + "…" }
        switch byte {
        case 0x22, 0x5C: out += "\\" + String(UnicodeScalar(byte))
        case 0x20...0x7E: out.unicodeScalars.append(UnicodeScalar(byte))
        default: out += "\\x" + hexadecimal(UInt64(byte), digits: 2)
        }
    }
    return out
}
