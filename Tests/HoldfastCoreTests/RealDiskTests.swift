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
}
