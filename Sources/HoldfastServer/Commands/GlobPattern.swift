/// A pattern of `KEYS`, `SCAN MATCH` and `CONFIG GET`: `*`, `?`, `[a-z]`, `[^a]`, and `\` before a character that stands
/// for itself; the rules of Redis, byte by byte.
struct GlobPattern: Sendable {
    private let bytes: [UInt8]
    private let ignoresCase: Bool

    init(_ text: some Sequence<UInt8>, ignoresCase: Bool = false) {
        var bytes = Array(text)
        if ignoresCase { bytes = bytes.map(Self.lower) }
        self.bytes = bytes
        self.ignoresCase = ignoresCase
    }

    /// What every match begins with.
    var literalPrefix: [UInt8] {
        ignoresCase ? [] : Array(bytes.prefix { ![0x2A, 0x3F, 0x5B, 0x5C].contains($0) })
    }

    func matches(_ text: UnsafeRawBufferPointer) -> Bool {
        bytes.withUnsafeBufferPointer { pattern in
            // One star is remembered: a later star makes earlier ones settled, so that this takes at most
            // pattern × text steps, whatever the pattern.
            var p = 0
            var t = 0
            var star: (pattern: Int, text: Int)?
            while true {
                if p < pattern.count, pattern[p] == 0x2A {
                    star = (p + 1, t)
                    p += 1
                    continue
                }
                if t < text.count, p < pattern.count, let next = Self.one(pattern, p, fold(text[t])) {
                    p = next
                    t += 1
                    continue
                }
                if t == text.count, p == pattern.count { return true }
                guard let back = star, back.text < text.count else { return false }
                star = (back.pattern, back.text + 1)
                p = back.pattern
                t = back.text + 1
            }
        }
    }

    private func fold(_ byte: UInt8) -> UInt8 { ignoresCase ? Self.lower(byte) : byte }

    private static func lower(_ byte: UInt8) -> UInt8 { (0x41...0x5A).contains(byte) ? byte | 0x20 : byte }

    /// Where the pattern goes on if its element at `p` matches `byte`.
    private static func one(_ pattern: UnsafeBufferPointer<UInt8>, _ p: Int, _ byte: UInt8) -> Int? {
        switch pattern[p] {
        case 0x3F: return p + 1
        case 0x5C where p + 1 < pattern.count: return pattern[p + 1] == byte ? p + 2 : nil
        case 0x5B:
            var at = p + 1
            let negated = at < pattern.count && pattern[at] == 0x5E
            if negated { at += 1 }
            var found = false
            // A class that is not closed ends with the pattern.
            while at < pattern.count, pattern[at] != 0x5D {
                if pattern[at] == 0x5C, at + 1 < pattern.count {
                    at += 1
                    if pattern[at] == byte { found = true }
                } else if at + 2 < pattern.count, pattern[at + 1] == 0x2D {
                    let low = min(pattern[at], pattern[at + 2])
                    let high = max(pattern[at], pattern[at + 2])
                    if (low...high).contains(byte) { found = true }
                    at += 2
                } else if pattern[at] == byte {
                    found = true
                }
                at += 1
            }
            return found != negated ? min(at + 1, pattern.count) : nil
        default: return pattern[p] == byte ? p + 1 : nil
        }
    }
}
