/// Guesses what was meant.
package enum Spelling {
    /// The candidate with the fewest edits, if there are at most two (one for words of up to four letters).
    package static func nearest(to word: String, among candidates: some Sequence<String>) -> String? {
        let word = Array(word.utf8.prefix(64))
        let bound = word.count <= 4 ? 1 : 2
        let ranked = candidates.map { (distance(word, Array($0.utf8)), $0) }.filter { $0.0 <= bound }
        return ranked.min { ($0.0, $0.1) < ($1.0, $1.1) }?.1
    }

    /// Insertions, deletions, replacements and exchanges of neighbours.
    private static func distance(_ a: [UInt8], _ b: [UInt8]) -> Int {
        var rows = [[Int]](repeating: [Int](repeating: 0, count: b.count + 1), count: a.count + 1)
        for i in 0...a.count { rows[i][0] = i }
        for j in 0...b.count { rows[0][j] = j }
        guard !a.isEmpty, !b.isEmpty else { return Swift.max(a.count, b.count) }
        for i in 1...a.count {
            for j in 1...b.count {
                var best = Swift.min(rows[i - 1][j] + 1, rows[i][j - 1] + 1)
                best = Swift.min(best, rows[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1))
                if i > 1, j > 1, a[i - 1] == b[j - 2], a[i - 2] == b[j - 1] {
                    best = Swift.min(best, rows[i - 2][j - 2] + 1)
                }
                rows[i][j] = best
            }
        }
        return rows[a.count][b.count]
    }
}
