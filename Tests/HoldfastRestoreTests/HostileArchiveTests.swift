import Foundation
import HoldfastCore
import HoldfastEngine
import HoldfastRepository
import HoldfastRestore
import HoldfastTestSupport
import Testing

@testable import HoldfastArchive

/// A real backup whose archive was rewritten by somebody who can write the repository, with every length, checksum and
/// digest made anew: only what the restore thinks of a member stands between it and the disk.
@Suite("A hostile archive writes nothing outside the restore's directory, and nothing but a restore's files in it")
struct HostileArchiveTests {
    /// A backup without compression, taken apart and put together again.
    private struct Forgery {
        let repository: Repository
        let directory: String
        let record: BackupRecord
        var index: FrameIndex
        /// The tar bytes of each frame.
        var frames: [[UInt8]]

        init(_ repository: Repository, _ root: String, _ record: BackupRecord) throws {
            self.repository = repository
            self.record = record
            directory = root + "/main/"
            index = try FrameIndex(
                decoding: Array(Data(contentsOf: URL(filePath: root + "/main/" + record.frameIndex.path))))
            try #require(record.archives.count == 1 && index.codec == .none)
            let archive = try Array(Data(contentsOf: URL(filePath: root + "/main/" + record.archives[0].path)))
            frames = index.frames.map { Array(archive[Int($0.offset)..<Int($0.offset) + $0.compressedBytes]) }
        }

        var firstPages: Int { index.frames.firstIndex { $0.kind == .pages }! }  // Every backup holds pages.

        /// The tar header of the first page file becomes this one.
        mutating func replacePageHeader(_ header: [UInt8]) {
            let number = firstPages
            frames[number] = header + frames[number].dropFirst(index.frames[number].headerBytes)
            index.frames[number].headerBytes = header.count
        }

        /// The header of the directory of the page files, which stands before the first of them, becomes this one.
        mutating func replaceDirectoryHeader(_ header: [UInt8]) {
            let frame = frames[firstPages - 1]
            let name = Array("pages/\u{0}".utf8)
            // Every backup has it.
            let place = stride(from: 0, to: frame.count, by: 512).first { frame[$0...].starts(with: name) }!
            frames[firstPages - 1].replaceSubrange(place..<place + 512, with: header)
        }

        /// Puts a member, and what the index says of it, before the page files and behind their directory.
        mutating func insert(_ tar: [UInt8], listed member: FrameIndex.Member?) {
            frames[firstPages - 1] += tar
            guard let member else { return }
            index.members.insert(member, at: index.members.firstIndex { $0.kind == .pageFile } ?? 0)
            for number in index.frames.indices where index.frames[number].kind == .pages {
                index.frames[number].member += 1
            }
        }

        /// Writes it all over the backup, so that everything agrees.
        func write() throws {
            var index = index
            var offset: UInt64 = 0
            for number in index.frames.indices {
                let crc = CRC32C.of(frames[number])
                index.frames[number].crc = crc
                index.frames[number].compressedCRC = crc
                index.frames[number].offset = offset
                index.frames[number].streamOffset = offset
                index.frames[number].bytes = frames[number].count
                index.frames[number].compressedBytes = frames[number].count
                offset += UInt64(frames[number].count)
            }
            let archive = frames.flatMap { $0 }
            let digest = SHA256Digest(of: archive)
            index.archives[0] = FinishedArchive(
                number: 1, bytes: offset, streamBytes: offset, sha256: digest.bytes)
            let table = index.encoded()
            var record = record
            record.archives[0].bytes = offset
            record.archives[0].sha256 = digest
            record.archiveBytes = offset
            record.frameIndex.bytes = UInt64(table.count)
            record.frameIndex.sha256 = SHA256Digest(of: table)
            for (path, bytes) in [
                (record.archives[0].path, archive), (record.frameIndex.path, table),
                ("backups/\(record.id)/backup.json", try RecordCoding.encode(record.sealed())),
            ] { try Data(bytes).write(to: URL(filePath: directory + path)) }
        }
    }

    /// Modes and kinds of everything below a path; links are not followed.
    private func entries(_ path: String) throws -> [String: mode_t] {
        var found: [String: mode_t] = [:]
        for name in try FileManager.default.subpathsOfDirectory(atPath: path) {
            var status = stat()
            try #require(lstat(path + "/" + name, &status) == 0)
            found[name] = status.st_mode
        }
        return found
    }

    private static func header(_ name: String, type: Unicode.Scalar = "0", size: UInt64 = 0, link: String = "")
        -> [UInt8]
    {
        var block = TarWriter.block(
            name: Array(name.utf8), prefix: [], mode: 0o600, size: size, modified: 0, type: type)
        for (index, byte) in link.utf8.enumerated() { block[157 + index] = byte }
        for index in 148..<156 { block[index] = 0x20 }
        let sum = String(block.reduce(0) { $0 + Int($1) }, radix: 8)
        let text = Array((String(repeating: "0", count: 6 - sum.utf8.count) + sum).utf8) + [0]
        for (index, byte) in text.enumerated() { block[148 + index] = byte }
        return block
    }

    @Test("S1: members that lead out, links, devices and hidden names, in a backup that is whole but for them")
    func members() async throws {
        let node = try await ArchivedNode()
        try node.engine.write { transaction in
            for number in 0..<500 { try transaction.put("0", Array("key\(number)".utf8), Array("value".utf8)) }
        }
        let record = try node.backup(.none)
        let root = node.directory.path + "/repository"
        let outside = node.directory.path + "/outside"
        try FileManager.default.createDirectory(atPath: outside, withIntermediateDirectories: false)
        let untouched = try Forgery(node.repository, root, record)
        let page = try #require(untouched.index.members.first { $0.kind == .pageFile })
        // `path/to/restored/../outside`, and the same from one directory deeper.
        let (away, absolute) = ("../outside/evil", outside + "/evil")
        let content = Array("evil".utf8)
        func file(_ path: String) -> FrameIndex.Member {
            .init(
                kind: .smallFile, archive: 1, path: path, bytes: UInt64(content.count), crc: CRC32C.of(content),
                modified: 0)
        }
        func directory(_ path: String) -> FrameIndex.Member {
            .init(kind: .directory, archive: 1, path: path, bytes: 0, crc: 0, modified: 0)
        }
        let padded = content + [UInt8](repeating: 0, count: 512 - content.count)
        let size = UInt64(content.count)
        let pax = TarWriter.paxRecord("path", away)
        let paxHeader =
            Self.header("PaxHeaders/x", type: "x", size: UInt64(pax.count)) + pax
            + [UInt8](repeating: 0, count: TarWriter.padding(after: UInt64(pax.count)))

        // What the member is, the name that the refusal must say, and how it is planted.
        var forgeries: [(String, String, (inout Forgery) -> Void)] = []
        for name in [away, "pages/../../outside/evil", absolute, "pages\\evil", "pages//00000000", "./pages/00000000"] {
            forgeries.append(
                ("a page file's header", name, { $0.replacePageHeader(Self.header(name, size: page.bytes)) }))
            forgeries.append(
                ("a listed file", name, { $0.insert(Self.header(name, size: size) + padded, listed: file(name)) }))
            forgeries.append(
                ("a listed directory", name, { $0.insert(Self.header(name + "/", type: "5"), listed: directory(name)) })
            )
            forgeries.append(
                ("an unlisted file", name, { $0.insert(Self.header(name, size: size) + padded, listed: nil) }))
        }
        forgeries.append(
            (
                "a page file's pax name", away,
                { $0.replacePageHeader(paxHeader + Self.header(page.path, size: page.bytes)) }
            ))
        for (type, link) in [
            ("1", absolute), ("2", outside), ("3", ""), ("4", ""), ("6", ""), ("2", ""), ("0", outside),
        ] as [(Unicode.Scalar, String)] {
            // The directory of the page files as a link to elsewhere, while the index says that it is a directory.
            forgeries.append(
                (
                    "the directory pages as type \(type)", "pages",
                    { $0.replaceDirectoryHeader(Self.header("pages", type: type, link: link)) }
                ))
            forgeries.append(
                (
                    "a page file as type \(type)", page.path,
                    { $0.replacePageHeader(Self.header(page.path, type: type, size: page.bytes, link: link)) }
                ))
            forgeries.append(
                (
                    "the label as type \(type)", "backup_label",
                    { $0.insert(Self.header("backup_label", type: type, link: link), listed: nil) }
                ))
        }
        for (number, (what, name, plant)) in forgeries.enumerated() {
            var forgery = untouched
            plant(&forgery)
            try forgery.write()
            let path = node.directory.path + "/restored-\(number)"
            let before = (TestCluster.fingerprint(root), TestCluster.fingerprint(outside))
            let names = try Set(FileManager.default.contentsOfDirectory(atPath: node.directory.path))
            var request = RestoreRequest(data: path)
            request.isCopy = true
            request.target = .immediate
            do {
                _ = try RestoreJob(node.repository, request).run()
                Issue.record("\(what), \(name): it was restored")
            } catch let error as any DiagnosableError {
                let text = error.diagnosis.description
                #expect(error.diagnosis.status == .dataError, "\(what), \(name): \(text)")
                #expect(text.contains(printable(name)), "\(what), \(name): it does not name the member: \(text)")
            }
            // Nothing outside, but for the restore's own hold.
            let after = (TestCluster.fingerprint(root), TestCluster.fingerprint(outside))
            #expect(
                before.0.filter { !$0.key.contains("locks") } == after.0.filter { !$0.key.contains("locks") },
                "\(what), \(name): the repository was changed")
            #expect(after.1 == before.1, "\(what), \(name): \(after.1.keys.sorted())")
            #expect(
                try Set(FileManager.default.contentsOfDirectory(atPath: node.directory.path))
                    .subtracting(names).isSubset(of: ["restored-\(number)"]), "\(what), \(name)")
            // Inside, if it came so far, what every restore makes, as plain files and directories; and it is not whole.
            guard FileManager.default.fileExists(atPath: path) else { continue }
            for (entry, mode) in try entries(path) {
                let isPlain = mode & S_IFMT == S_IFREG || mode & S_IFMT == S_IFDIR
                let own = ["control", "pages", page.path, "wal", "wal/archive_status", "slots"]
                #expect(isPlain && own.contains(entry), "\(what), \(name): \(entry), mode \(String(mode, radix: 8))")
            }
            let refusal = #expect(throws: EngineError.self) { try Engine(opening: RealDisk(root: path)) }
            #expect(refusal?.description.contains("restore") == true, "\(String(describing: refusal))")
            try FileManager.default.removeItem(atPath: path)
        }
        print("hostile archives: \(forgeries.count) refused")
        // The forger's tools are sound: written back unchanged, it restores.
        try untouched.write()
        let engine = try node.restored(to: .immediate, number: 1000)
        #expect(try engine.allRecords()["0"]?.count == 500)
        try engine.close()
        try await node.stop()
    }
}
