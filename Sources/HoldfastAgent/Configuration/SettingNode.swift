import Foundation
import HoldfastCore
import Yams

/// One value of the configuration with the place where it was written. YAML files and JSON lists of the environment
/// (JSON is YAML) both become this tree, within bounds that no honest file meets.
struct SettingNode: Sendable, Equatable {
    typealias Origin = ConfigurationError.Origin

    enum Content: Sendable, Equatable {
        case scalar(String)
        case list([SettingNode])
        case map([Entry])
        /// A key without a value.
        case empty
    }

    struct Entry: Sendable, Equatable {
        var key: String
        var origin: Origin
        var value: SettingNode
    }

    var content: Content
    var origin: Origin

    /// What a file may measure: bytes, bytes of a line, levels, values, and uses of an anchor.
    enum Bounds {
        static let bytes = 256 << 10
        static let lineBytes = 4096
        static let depth = 16
        static let nodes = 4096
        static let aliases = 16
    }

    /// Reads one YAML document. `place` gives the origin of a line.
    static func parse(_ bytes: [UInt8], place: (Int) -> Origin) throws(ConfigurationError) -> SettingNode {
        guard bytes.count <= Bounds.bytes else {
            throw .outOfBounds(place(1), "\(bytes.count) bytes where at most \(Bounds.bytes) are allowed")
        }
        guard let text = String(validating: bytes, as: UTF8.self) else { throw .notYAML(place(1), "it is not UTF-8") }
        try checkShape(bytes, place: place)
        let root: Node?
        do {
            root = try Yams.Parser(yaml: text).singleRoot()
        } catch let error as YamlError {
            throw refusal(error, place)
        } catch {
            throw .notYAML(place(1), "\(error)")
        }
        guard let root else { return SettingNode(content: .empty, origin: place(1)) }
        var budget = Bounds.nodes
        return try convert(root, depth: 0, budget: &budget, inherited: 1, place)
    }

    /// Before the parser sees it: an alias may stand for a tree of aliases, so their number bounds what they unfold to.
    private static func checkShape(_ bytes: [UInt8], place: (Int) -> Origin) throws(ConfigurationError) {
        var line = 1
        var lineStart = 0
        var aliases = 0
        for (index, byte) in bytes.enumerated() {
            if byte == UInt8(ascii: "\n") {
                line += 1
                lineStart = index + 1
            } else if index - lineStart >= Bounds.lineBytes {
                throw .outOfBounds(place(line), "a line has more than \(Bounds.lineBytes) bytes")
            } else if byte == UInt8(ascii: "*"), index + 1 < bytes.count, isAnchorByte(bytes[index + 1]) {
                aliases += 1
                guard aliases <= Bounds.aliases else {
                    throw .outOfBounds(place(line), "it has more than \(Bounds.aliases) aliases")
                }
            }
        }
    }

    private static func isAnchorByte(_ byte: UInt8) -> Bool {
        (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte) || byte == 0x5F
            || byte == 0x2D || byte >= 0x80
    }

    private static func convert(
        _ node: Node, depth: Int, budget: inout Int, inherited: Int, _ place: (Int) -> Origin
    ) throws(ConfigurationError) -> SettingNode {
        let line = node.mark?.line ?? inherited
        budget -= 1
        guard budget > 0 else { throw .outOfBounds(place(line), "it has more than \(Bounds.nodes) values") }
        guard depth < Bounds.depth else { throw .outOfBounds(place(line), "it is nested deeper than \(Bounds.depth)") }
        switch node {
        case .scalar(let scalar):
            let isEmpty = scalar.style == .plain && ["", "~", "null"].contains(scalar.string)
            return SettingNode(content: isEmpty ? .empty : .scalar(scalar.string), origin: place(line))
        case .sequence(let sequence):
            var list: [SettingNode] = []
            for element in sequence {
                list.append(try convert(element, depth: depth + 1, budget: &budget, inherited: line, place))
            }
            return SettingNode(content: .list(list), origin: place(line))
        case .mapping(let mapping):
            var entries: [Entry] = []
            for (key, value) in mapping {
                let keyLine = key.mark?.line ?? line
                guard case .scalar(let name) = key else { throw .notYAML(place(keyLine), "a key is not a word") }
                guard !entries.contains(where: { $0.key == name.string }) else {
                    throw .duplicateKey(name.string, place(keyLine))
                }
                entries.append(
                    Entry(
                        key: name.string, origin: place(keyLine),
                        value: try convert(value, depth: depth + 1, budget: &budget, inherited: keyLine, place)))
            }
            return SettingNode(content: .map(entries), origin: place(line))
        case .alias:
            throw .notYAML(place(line), "an alias stands for nothing")
        }
    }

    private static func refusal(_ error: YamlError, _ place: (Int) -> Origin) -> ConfigurationError {
        switch error {
        case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
            .composer(_, let problem, let mark, _):
            .notYAML(place(mark.line), problem)
        case .duplicatedKeysInMapping(let keys, let context):
            .duplicateKey(keys.first ?? "", place(context.mark.line))
        case .reader(let problem, _, _, _): .notYAML(place(1), problem)
        default: .notYAML(place(1), "it cannot be parsed")
        }
    }
}
