/// Which member names may stand in an archive: relative paths of plain parts, so that nothing can
/// land outside the directory it is unpacked into, on any system.
package enum MemberName {
    package static let maximumBytes = 1024

    /// Why `name` is refused; `nil` when it may be used.
    package static func refusal(_ name: some Sequence<UInt8>) -> String? {
        let bytes = Array(name)
        if bytes.isEmpty { return "the name is empty" }
        if bytes.count > maximumBytes { return "the name is longer than \(maximumBytes) bytes" }
        if bytes[0] == UInt8(ascii: "/") { return "the name is absolute" }
        if bytes.contains(0) { return "the name contains NUL" }
        if bytes.contains(UInt8(ascii: "\\")) { return "the name contains a backslash" }
        if bytes.contains(where: { $0 < 0x20 || $0 == 0x7F }) { return "the name contains a control character" }
        for part in bytes.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false) {
            if part.isEmpty { return "the name has an empty part" }
            if part.elementsEqual("..".utf8) { return "the name leads out of the directory" }
            if part.elementsEqual(".".utf8) { return "the name has a part that is a dot" }
        }
        return nil
    }
}
