import CShims
import Foundation
import HoldfastCore
import HoldfastTestSupport
import Synchronization

@testable import HoldfastArchive

/// Page files in memory, as a data directory would have them.
final class MemoryPages: PageSource {
    let files: [PageFileMember]
    /// What is there of each file; may be less than promised.
    private let bytes: Mutex<[Int: [UInt8]]>
    /// Called with (file, offset, count) after each read, with the bytes that will be returned.
    let tamper: (@Sendable (Int, UInt64, UnsafeMutableRawBufferPointer) -> Void)?
    let settled: (@Sendable (PageNumber, UnsafeMutableRawBufferPointer) -> Void)?

    init(
        _ content: [(index: Int, pages: Int, missing: Int)], random: inout SeededGenerator,
        tamper: (@Sendable (Int, UInt64, UnsafeMutableRawBufferPointer) -> Void)? = nil,
        settled: (@Sendable (PageNumber, UnsafeMutableRawBufferPointer) -> Void)? = nil
    ) {
        var files: [PageFileMember] = []
        var bytes: [Int: [UInt8]] = [:]
        for (index, pages, missing) in content {
            files.append(
                PageFileMember(index: index, bytes: UInt64(pages * Page.bytes), modified: 1_790_000_000 + Int64(index)))
            bytes[index] = Self.file(index, pages: pages - missing, random: &random)
        }
        self.files = files
        self.bytes = Mutex(bytes)
        self.tamper = tamper
        self.settled = settled
    }

    /// Pages of words, of noise, and of zeros.
    static func file(_ index: Int, pages: Int, random: inout SeededGenerator) -> [UInt8] {
        var file = [UInt8](repeating: 0, count: pages * Page.bytes)
        let words = (0..<64).map { _ in UInt64.random(in: 0...UInt64.max, using: &random) }
        file.withUnsafeMutableBytes { buffer in
            for place in 0..<pages {
                let kind = Int.random(in: 0..<10, using: &random)
                if kind == 0 { continue }
                let number = UInt32(index) * PageNumber.pagesPerFile + UInt32(place)
                let page = Page(buffer.baseAddress! + place * Page.bytes)
                page.format(number: PageNumber(number), kind: .leaf)
                page.lsn = LSN(UInt64.random(in: 1...1 << 40, using: &random))
                page.lower = 24 + Int.random(in: 0...900, using: &random) * 8
                for at in stride(from: 24, to: page.lower, by: 8) {
                    let word = kind < 3 ? UInt64.random(in: 0...UInt64.max, using: &random) : words[(at + place) % 64]
                    page.base.storeBytes(of: word, toByteOffset: at, as: UInt64.self)
                }
                page.stampChecksum()
            }
        }
        return file
    }

    /// The content of a file as promised: zeros where it is shorter.
    func promised(_ index: Int) -> [UInt8] {
        let length = Int(files.first { $0.index == index }!.bytes)
        let there = bytes.withLock { $0[index]! }
        return there.prefix(length) + [UInt8](repeating: 0, count: max(0, length - there.count))
    }

    func write(below root: String) throws {
        try FileManager.default.createDirectory(atPath: root + "/pages", withIntermediateDirectories: true)
        for file in files {
            try Data(bytes.withLock { $0[file.index]! }).write(
                to: URL(fileURLWithPath: root + "/" + PageNumber.filePath(file.index)))
        }
    }

    func read(file: Int, into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws -> Int {
        let count = bytes.withLock { bytes in
            let file = bytes[file]!
            let count = max(0, min(buffer.count, file.count - Int(offset)))
            if count > 0 {
                buffer.copyBytes(from: file[Int(offset)..<Int(offset) + count])
            }
            return count
        }
        tamper?(file, offset, buffer)
        return count
    }

    func readSettled(_ page: PageNumber, into buffer: UnsafeMutableRawBufferPointer) throws -> Bool {
        guard let settled else { return false }
        settled(page, buffer)
        return true
    }
}

/// Archives in memory. Checks the order of the calls it gets.
final class MemoryArchives: ArchiveSink, ArchiveSource {
    struct SinkFull: Error {}
    private struct State {
        var archives: [[UInt8]] = []
        var open = false
        var finished: [FinishedArchive] = []
    }
    private let state: Mutex<State>
    private let limit: Int

    init(limit: Int = .max, archives: [[UInt8]] = []) {
        self.limit = limit
        state = Mutex(State(archives: archives))
    }

    var archives: [[UInt8]] { state.withLock { $0.archives } }
    var finished: [FinishedArchive] { state.withLock { $0.finished } }

    func begin(archive number: Int) throws {
        state.withLock {
            precondition(!$0.open && number == $0.archives.count + 1)
            $0.open = true
            $0.archives.append([])
        }
    }

    func write(_ bytes: UnsafeRawBufferPointer) throws {
        try state.withLock {
            precondition($0.open)
            $0.archives[$0.archives.count - 1].append(contentsOf: bytes)
            if $0.archives.reduce(0, { $0 + $1.count }) > limit { throw SinkFull() }
        }
    }

    func finish(_ archive: FinishedArchive) throws {
        state.withLock {
            precondition($0.open && archive.number == $0.archives.count)
            $0.open = false
            $0.finished.append(archive)
        }
    }

    func read(archive number: Int, into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws -> Int {
        state.withLock {
            let archive = $0.archives[number - 1]
            let count = max(0, min(buffer.count, archive.count - Int(clamping: offset)))
            if count > 0 { buffer.copyBytes(from: archive[Int(offset)..<Int(offset) + count]) }
            return count
        }
    }
}

let testTag = ArchiveTag(
    backupID: "20261123T021500Z-full", systemIdentifier: SystemIdentifier(rawValue: 7_421_337_000_000_042),
    timeline: TimelineID(1), startLSN: LSN(0x16_B374_D848))

let testMembers = [
    SmallMember(
        path: "control", bytes: (0..<8192).map { UInt8(truncatingIfNeeded: $0 &* 31) }, modified: 1_790_000_100),
    SmallMember(
        path: "backup_label", bytes: Array("START WAL LOCATION: 16/B374D848\n".utf8), modified: 1_790_000_101),
]

/// Packs `pages` with the small members above.
func pack(
    _ pages: MemoryPages, into sink: some ArchiveSink, codec: Codec, level: Int = 1, workers: Int = 2,
    archiveBytes: UInt64 = 16 << 30, members: [SmallMember] = testMembers
) throws -> ArchiveResult {
    let writer = try ArchiveWriter(
        tag: testTag,
        options: ArchiveOptions(
            compression: Compression(codec, level: level), workers: workers, archiveBytes: archiveBytes),
        pageFiles: pages.files, source: pages, sink: sink)
    try writer.writePages()
    return try writer.finish(members)
}

/// Runs a program of the system; returns its status and everything it printed.
func run(_ program: String, _ arguments: [String]) throws -> (status: Int32, output: String) {
    let result = try BuiltBinary.runTool("/usr/bin/env", [program] + arguments)
    return (result.status, result.output + result.errors)
}

func contents(_ path: String) throws -> [UInt8] { Array(try Data(contentsOf: URL(fileURLWithPath: path))) }
