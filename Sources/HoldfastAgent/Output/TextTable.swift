/// An aligned table for people: headings, then rows, two blanks between columns.
package struct TextTable: Sendable {
    package enum Alignment: Sendable { case left, right }

    private let columns: [(heading: String, alignment: Alignment)]
    private var rows: [[String]] = []

    package init(_ columns: [(String, Alignment)]) {
        self.columns = columns.map { (heading: $0.0, alignment: $0.1) }
    }

    package var isEmpty: Bool { rows.isEmpty }

    package mutating func add(_ cells: [String]) {
        precondition(cells.count == columns.count)
        rows.append(cells.map { terminalSafe($0) })
    }

    /// Lines without blanks at their ends.
    package var text: String {
        let widths = columns.indices.map { column in
            rows.reduce(columns[column].heading.count) { Swift.max($0, $1[column].count) }
        }
        return ([columns.map(\.heading)] + rows).map { line($0, widths) + "\n" }.joined()
    }

    private func line(_ cells: [String], _ widths: [Int]) -> String {
        var line = ""
        for (column, cell) in cells.enumerated() {
            let padding = String(repeating: " ", count: widths[column] - cell.count)
            line += columns[column].alignment == .left ? cell + padding : padding + cell
            line += "  "
        }
        while line.last == " " { line.removeLast() }
        return line
    }
}

/// Text that a terminal shows as it stands: control characters, and those that turn the direction of writing, are
/// escaped. Line feeds stay when `keepingLines`.
package func terminalSafe(_ text: String, keepingLines: Bool = false) -> String {
    var out = ""
    for scalar in text.unicodeScalars {
        let isHarmful =
            scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value) || (0x202A...0x202E).contains(scalar.value)
            || (0x2066...0x2069).contains(scalar.value)
        if isHarmful && !(keepingLines && scalar == "\n") {
            out += "\\u{" + String(scalar.value, radix: 16) + "}"
        } else {
            out.unicodeScalars.append(scalar)
        }
    }
    return out
}
