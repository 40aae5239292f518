import HoldfastCore
import Testing

@testable import HoldfastArchive

@Suite("The tar reader takes plain files and directories, and names what it refuses")
struct TarTests {
    private static let end = [UInt8](repeating: 0, count: TarWriter.endOfArchiveBytes)

    private func entries(_ bytes: [UInt8]) throws -> [TarReader.Entry] {
        var tar = TarReader(bytes)
        var found: [TarReader.Entry] = []
        while let entry = try tar.next() { found.append(entry) }
        return found
    }

    private func member(_ name: [UInt8], type: Unicode.Scalar = "0", size: UInt64 = 0, link: String = "") -> [UInt8] {
        var block = TarWriter.block(
            name: name, prefix: [], mode: 0o600, size: size, modified: 0, type: type)
        for (index, byte) in link.utf8.enumerated() { block[157 + index] = byte }
        return reseal(block)
    }

    private func reseal(_ block: [UInt8]) -> [UInt8] {
        var block = block
        for index in 148..<156 { block[index] = 0x20 }
        let sum = String(block.reduce(0) { $0 + Int($1) }, radix: 8)
        let text = String(repeating: "0", count: 6 - sum.utf8.count) + sum
        for (index, byte) in (Array(text.utf8) + [0]).enumerated() { block[148 + index] = byte }
        return block
    }

    @Test("names of every length come back, through the prefix field or a pax header")
    func names() throws {
        let names = [
            "a", "pages/00000000", String(repeating: "x", count: 100), String(repeating: "x", count: 101),
            String(repeating: "d", count: 150) + "/" + String(repeating: "f", count: 100),
            String(repeating: "d", count: 156) + "/" + String(repeating: "f", count: 10),
            String(repeating: "long/", count: 150) + "name", "grün",
        ]
        for name in names {
            for kind in [TarWriter.Kind.file, .directory] {
                let header = try TarWriter.header(path: name, kind: kind, size: 0, modified: 1_790_000_000)
                #expect(
                    try entries(header + Self.end) == [
                        .init(path: name, kind: kind, size: 0, modified: 1_790_000_000)
                    ])
            }
        }
        let huge = try TarWriter.header(path: "huge", kind: .file, size: 1 << 40, modified: 0)
        var tar = TarReader(huge)
        #expect(try tar.next()?.size == 1 << 40)
    }

    @Test(
        "S1: names that lead out, links, devices and duplicates are refused by name",
        arguments: [
            ("../evil", "0", ""), ("a/../../evil", "0", ""), ("..", "5", ""), ("/etc/passwd", "0", ""),
            ("a\\b", "0", ""), ("a//b", "0", ""), ("./a", "0", ""), ("a/.", "0", ""), ("", "0", ""),
            ("esc\u{1B}[2J", "0", ""), ("line\nbreak", "0", ""),
            ("hard", "1", "control"), ("bare-hard", "1", ""), ("bare-soft", "2", ""), ("soft", "2", "/etc"),
            ("char", "3", ""), ("block", "4", ""), ("fifo", "6", ""),
            ("sparse", "S", ""), ("longlink", "K", ""), ("contiguous", "7", ""), ("file-with-target", "0", "/etc"),
        ])
    func hostile(name: String, type: String, link: String) throws {
        let bytes = member(Array(name.utf8), type: type.unicodeScalars.first!, link: link) + Self.end
        let error = #expect(throws: ArchiveError.self) { try entries(bytes) }
        guard case .badMember(name, _) = error else {
            Issue.record("\(String(describing: error)) does not name the member")
            return
        }
        let text = error!.diagnosis.description
        #expect(error!.diagnosis.status == .dataError)
        #expect(!text.contains("\u{1B}") && !text.contains("line\nbreak"))
    }

    @Test("S1: bytes behind a NUL, a link and then a file through it, duplicates, a pax name that leads out")
    func hostileSequences() throws {
        let hidden = member(Array("good\u{0}/../../evil".utf8))
        let through = member(Array("dir".utf8), type: "2", link: "/tmp") + member(Array("dir/file".utf8))
        let twice = member(Array("a".utf8)) + member(Array("b".utf8)) + member(Array("a".utf8))
        let fileAndDirectory = member(Array("a".utf8)) + member(Array("a/".utf8), type: "5")
        func pax(_ key: String, _ value: String, type: Unicode.Scalar = "x") -> [UInt8] {
            let body = TarWriter.paxRecord(key, value)
            return member(Array("PaxHeaders/x".utf8), type: type, size: UInt64(body.count)) + body
                + [UInt8](repeating: 0, count: TarWriter.padding(after: UInt64(body.count)))
        }
        let paxName = pax("path", "/evil") + member(Array("good".utf8))
        let paxNUL = pax("path", "a\u{0}b") + member(Array("good".utf8))
        for bytes in [hidden, through, twice, fileAndDirectory, paxName, paxNUL] {
            let error = #expect(throws: ArchiveError.self) { try entries(bytes + Self.end) }
            guard case .badMember = error else {
                Issue.record("\(String(describing: error))")
                continue
            }
        }
        for (key, value) in [
            ("linkpath", "/etc"), ("GNU.sparse.size", "1"), ("size", "-1"), ("size", "99999999999999999999"),
        ] {
            #expect(throws: ArchiveError.self) { try entries(pax(key, value) + member(Array("good".utf8)) + Self.end) }
        }
    }

    @Test("S9: sizes of -1, 2^31, 2^32-1, 2^63, binary numbers and missing content are errors")
    func sizes() throws {
        for size: UInt64 in [1 << 31, 1 << 32 - 1, TarWriter.largestOctalSize] {
            #expect(throws: ArchiveError.self) {
                try entries(member([0x61], size: size) + Self.end + Self.end.dropLast())
            }
        }
        for field in ["-1", "80000000000", "", "        ", "1x", "\u{FF}"] {
            var block = TarWriter.block(name: [0x61], prefix: [], mode: 0o600, size: 0, modified: 0, type: "0")
            for index in 124..<136 { block[index] = 0 }
            for (index, byte) in Array(field.utf8).prefix(12).enumerated() { block[124 + index] = byte }
            if field == "\u{FF}" { for index in 124..<136 { block[index] = 0xFF } }
            #expect(throws: ArchiveError.self, "\(field)") { try entries(reseal(block) + Self.end) }
        }
        for value in ["9223372036854775807", "9223372036854775808", "18446744073709551615"] {
            let body = TarWriter.paxRecord("size", value)
            let pax = member(Array("x".utf8), type: "x", size: UInt64(body.count)) + body
            let padded = pax + [UInt8](repeating: 0, count: TarWriter.padding(after: UInt64(body.count)))
            #expect(throws: ArchiveError.self) { try entries(padded + member([0x61]) + Self.end) }
        }
        for length in ["0", "1", "4", "99999999", "-5", "4294967296"] {
            let body = Array("\(length) path=a\n".utf8)
            let pax = member(Array("x".utf8), type: "x", size: UInt64(body.count)) + body
            let padded = pax + [UInt8](repeating: 0, count: TarWriter.padding(after: UInt64(body.count)))
            #expect(throws: ArchiveError.self, "\(length)") { try entries(padded + member([0x61]) + Self.end) }
        }
        #expect(throws: ArchiveError.self) { try entries(member(Array("x".utf8), type: "x", size: 1 << 30) + Self.end) }
    }

    @Test("a stream cut anywhere, or with a bit flipped in a header, is refused")
    func damage() throws {
        let content = Array("hello".utf8)
        let whole =
            TarWriter.globalHeader(testTag, archive: 1)
            + (try TarWriter.header(path: "a/b", kind: .file, size: 5, modified: 77)) + content
            + [UInt8](repeating: 0, count: 507) + Self.end
        let expected = try entries(whole)
        for length in stride(from: 0, to: whole.count, by: 7) {
            #expect(throws: ArchiveError.self) { try entries(Array(whole[..<length])) }
        }
        let header = whole.count - TarWriter.endOfArchiveBytes - 1024
        for at in header..<header + 512 {
            var bytes = whole
            bytes[at] ^= 1
            // A space for a NUL in an octal field's padding says the same.
            #expect(throws: ArchiveError.self, "byte \(at - header)") { try entries(bytes) }
        }
        #expect(expected == [.init(path: "a/b", kind: .file, size: 5, modified: 77)])
    }
}
