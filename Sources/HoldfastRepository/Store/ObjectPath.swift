import HoldfastCore

/// Where an object lies below the root of a store: parts of letters, digits, `.`, `_` and `-`, joined by `/`.
/// A value of this type can neither leave the root nor hold anything that a terminal or a shell would interpret.
package struct ObjectPath: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// `main/wal/00000001.history`
    package let text: String

    /// `nil` for an empty or overlong part, one that begins with a dot (temporaries do), or other characters.
    package init?(_ text: some StringProtocol) {
        guard text.utf8.count <= 1024 else { return nil }
        let parts = text.utf8.split(separator: 0x2F, omittingEmptySubsequences: false)
        guard !parts.isEmpty, parts.allSatisfy({ Self.isPart($0) }) else { return nil }
        self.text = String(text)
    }

    private init(joined text: String) { self.text = text }

    /// One level further down. `part` must be a valid part: callers pass names that they made or checked.
    package static func / (path: ObjectPath, part: String) -> ObjectPath {
        precondition(isPart(part.utf8[...]), "a part of an object's path must be a plain name")
        return ObjectPath(joined: path.text + "/" + part)
    }

    package var name: String { String(text.split(separator: "/").last!) }
    /// `nil` at the top.
    package var parent: ObjectPath? {
        guard let slash = text.lastIndex(of: "/") else { return nil }
        return ObjectPath(joined: String(text[..<slash]))
    }
    package var parts: [String] { text.split(separator: "/").map(String.init) }
    package var description: String { text }
    package static func < (a: Self, b: Self) -> Bool { a.text < b.text }

    /// `true` for what may stand as one part of a path.
    package static func isPart(_ bytes: some Collection<UInt8>) -> Bool {
        guard let first = bytes.first, first != 0x2E, bytes.count <= 200 else { return false }
        return bytes.allSatisfy {
            (48...57).contains($0) || (65...90).contains($0) || (97...122).contains($0)
                || $0 == 0x2E || $0 == 0x5F || $0 == 0x2D
        }
    }
}
