import HoldfastCore

/// Objects of one directory that differ by a number in their name, such as `00000007.json` or `started-0002.json`.
/// The highest is what holds; numbers are compared as numbers, and the highest is never deleted, so that none is
/// used twice.
package struct NumberedObjects: Sendable {
    package let directory: ObjectPath
    package let prefix: String
    package let digits: Int

    package init(directory: ObjectPath, prefix: String = "", digits: Int = 8) {
        self.directory = directory
        self.prefix = prefix
        self.digits = digits
    }

    package func path(_ number: UInt64) -> ObjectPath {
        let text = String(number)
        return directory
            / (prefix + String(repeating: "0", count: max(0, digits - text.utf8.count)) + text + ".json")
    }

    /// The number in an object's name; `nil` for other objects.
    package func number(_ name: String) -> UInt64? {
        guard name.hasPrefix(prefix), name.hasSuffix(".json") else { return nil }
        let text = name.dropFirst(prefix.utf8.count).dropLast(5)
        guard text.utf8.count >= digits, text.utf8.count <= 19, text.utf8.allSatisfy({ (48...57).contains($0) }) else {
            return nil
        }
        guard let number = UInt64(text), number > 0 else { return nil }
        return number
    }

    /// Number and listing of each, ascending.
    package func list(_ store: any ObjectStore) throws -> [(number: UInt64, object: ObjectListing)] {
        try store.list(directory).compactMap { object in number(object.name).map { ($0, object) } }
            .sorted { $0.0 < $1.0 }
    }
}
