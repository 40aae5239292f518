import Foundation
import HoldfastCore
import HoldfastTestSupport
import Testing

@Suite("The real disk keeps the seam's promises")
struct RealDiskTests {
    @Test("files are made, written, read, renamed and listed below the root")
    func files() throws {
        let directory = try TemporaryDirectory()
        let disk = try RealDisk(root: directory.path)
        try disk.createDirectory("wal")
        let file = try disk.open("wal/a", .create)
        try file.write(bytes: Array("hello".utf8), at: 3)
        #expect(try file.readBytes(count: 100, at: 0) == [0, 0, 0] + Array("hello".utf8))
        let pieces = (0..<3000).map { [UInt8(truncatingIfNeeded: $0)] }
        try pieces.flatMap { $0 }.withUnsafeBytes { all in
            try file.write(gathering: (0..<3000).map { UnsafeRawBufferPointer(rebasing: all[$0..<$0 + 1]) }, at: 10)
        }
        #expect(try file.readBytes(count: 3000, at: 10) == pieces.flatMap { $0 })
        try file.sync()
        try file.allocate(from: 0, bytes: 10_000)
        #expect(try file.size() == 10_000)
        try disk.rename("wal/a", to: "wal/b")
        _ = try disk.open("wal/c", .create)
        #expect(throws: DiskError.self) { try disk.renameExclusively("wal/c", to: "wal/b") }
        #expect(try disk.list("wal") == ["b", "c"])
        try disk.syncDirectory("wal")
        try disk.replaceAtomically("control", with: [1, 2, 3])
        #expect(try disk.readAll("control") == [1, 2, 3])
        #expect(throws: DiskError.self) { try disk.readAll("control", limit: 2) }
    }

    @Test("A8: a read that fails is an error, never the file's end")
    func failedRead() throws {
        let directory = try TemporaryDirectory()
        let disk = try RealDisk(root: directory.path)
        // A directory can be opened for reading, and every read of it fails.
        try disk.createDirectory("wal")
        let file = try disk.open("wal", .read)
        #expect(throws: DiskError.self) { try file.readBytes(count: 100, at: 0) }
    }

    @Test("S2: a planted symbolic link is not followed, and nothing above the root is opened")
    func links() throws {
        let directory = try TemporaryDirectory()
        try FileManager.default.createDirectory(atPath: directory.path + "/data", withIntermediateDirectories: false)
        try Data([1]).write(to: URL(filePath: directory.path + "/secret"))
        symlink("../secret", directory.path + "/data/link")
        symlink("..", directory.path + "/data/up")
        let disk = try RealDisk(root: directory.path + "/data")
        for path in ["link", "up/secret", "../secret", directory.path + "/secret"] {
            #expect(throws: DiskError.self, "\(path)") { try disk.open(path, .read) }
            #expect(throws: DiskError.self, "\(path)") { try disk.open(path, .createOrOpen) }
        }
    }

    @Test("A10: the directory's lock is refused to a second holder and dies with the first")
    func locks() throws {
        let directory = try TemporaryDirectory()
        var first: RealDisk? = try RealDisk(root: directory.path)
        try first!.lock()
        let second = try RealDisk(root: directory.path)
        let error = #expect(throws: DiskError.self) { try second.lock() }
        #expect(error?.code == .wouldBlock)
        #expect(error?.diagnosis.status == .tryAgain)
        first = nil
        try second.lock()
    }

    @Test("A10: the directory's lock is refused to a second holder through the same value")
    func lockedTwice() throws {
        let directory = try TemporaryDirectory()
        let disk = try RealDisk(root: directory.path)
        try disk.lock()
        #expect(throws: DiskError.self) { try disk.lock() }
        disk.unlock()
        try disk.lock()
    }

    @Test(
        "A8: a write that the kernel cuts short is gone on with, and what comes of that is reported",
        .enabled(if: SmallFileSystem.isPossible, "mounting a tmpfs needs root"), arguments: [false, true])
    func shortWrite(_ isGathered: Bool) throws {
        let directory = try TemporaryDirectory("holdfast-short")
        let fileSystem = try SmallFileSystem(directory.path + "/small", size: "1m")
        let disk = try RealDisk(root: fileSystem.path)
        let bytes = (0..<3 << 20).map { UInt8(truncatingIfNeeded: $0 / 251) }
        let file = try disk.open("file", .create)
        func write() throws {
            guard isGathered else { return try file.write(bytes: bytes, at: 0) }
            try bytes.withUnsafeBytes { all in
                let pieces = stride(from: 0, to: all.count, by: 100_000).map {
                    UnsafeRawBufferPointer(rebasing: all[$0..<min($0 + 100_000, all.count)])
                }
                try file.write(gathering: pieces, at: 0)
            }
        }
        let error = #expect(throws: DiskError.self) { try write() }
        #expect(error?.isNoSpace == true, "\(String(describing: error))")
        // The kernel took a part, and said so without an error.
        let taken = Int(try file.size())
        #expect(taken > 0 && taken < bytes.count)
        #expect(try file.readBytes(count: taken, at: 0) == Array(bytes[..<taken]))
        try fileSystem.grow(to: "8m")
        try write()
        #expect(try file.readBytes(count: bytes.count + 1, at: 0) == bytes)
    }

    @Test(
        "A8: a read that the kernel answers bit by bit is gone on with to the end",
        .enabled(if: access("/proc/kallsyms", R_OK) == 0, "needs a file that is read bit by bit"))
    func shortRead() throws {
        let disk = try RealDisk(root: "/proc")
        let file = try disk.open("kallsyms", .read)
        let count = 200_000
        var whole: [UInt8] = []
        var calls = 0
        let descriptor = open("/proc/kallsyms", O_RDONLY)
        defer { close(descriptor) }
        while whole.count < count {
            var piece = [UInt8](repeating: 0, count: count - whole.count)
            let got = pread(descriptor, &piece, piece.count, off_t(whole.count))
            try #require(got > 0)
            whole += piece[..<got]
            calls += 1
        }
        try #require(calls > 1, "the kernel gave all at once")
        let read = try file.readBytes(count: count, at: 0)
        #expect(read.count == count)
        let isEqual = read == whole
        #expect(isEqual)
    }
}
