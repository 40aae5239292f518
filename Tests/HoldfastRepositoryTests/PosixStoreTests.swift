import Foundation
import HoldfastCore
import HoldfastRepositoryTestSupport
import HoldfastTestSupport
import Testing

@testable import HoldfastRepository

@Suite("A posix store creates objects exclusively, durably and inside its root")
struct PosixStoreTests {
    let directory: TemporaryDirectory
    let store: PosixStore

    init() throws {
        directory = try TemporaryDirectory("store")
        store = PosixStore(root: directory.path)
    }

    private func path(_ text: String) -> ObjectPath { ObjectPath(text)! }

    @Test("of two creations one succeeds; the other sees equal or different bytes")
    func exclusive() throws {
        #expect(try store.create(path("a/b/c.json"), [1, 2, 3]) == .created)
        #expect(try store.create(path("a/b/c.json"), [1, 2, 3]) == .equal)
        #expect(try store.create(path("a/b/c.json"), [1, 2]) == .different)
        #expect(try store.create(path("a/b/c.json"), [1, 2, 3, 4, 5, 6]) == .different)
        #expect(try store.read(path("a/b/c.json"), limit: 3) == [1, 2, 3])
        #expect(try store.list(path("a/b")).map(\.name) == ["c.json"])
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path + "/a/b") == ["c.json"])
    }

    @Test("of many that create one name at once exactly one wins")
    func race() async throws {
        let store = self.store
        let outcomes = await withTaskGroup(of: Creation?.self) { group in
            for number in 0..<16 {
                group.addTask { try? store.create(ObjectPath("race/one")!, [UInt8(number)]) }
            }
            return await group.reduce(into: [Creation?]()) { $0.append($1) }
        }
        #expect(outcomes.filter { $0 == .created }.count == 1)
        #expect(outcomes.filter { $0 == .different }.count == 15)
    }

    @Test("a streamed object appears when it is finished and never replaces another")
    func streamed() throws {
        let object = path("backups/x/base.tar")
        let writer = try store.put(object)
        try writer.write([UInt8](repeating: 7, count: 100_000))
        #expect(try store.describe(object) == nil)
        #expect(try store.list(path("backups/x")).isEmpty)
        let other = try store.put(object)
        try other.write([1])
        #expect(try writer.finish() == .created)
        #expect(try other.finish() == .different)
        #expect(try store.describe(object)?.bytes == 100_000)
        let opened = try store.open(object)
        #expect(try opened.readBytes(count: 3, at: 99_997) == [7, 7, 7])
        #expect(throws: StoreError.self) { try opened.readBytes(count: 4, at: 99_997) }
    }

    @Test("what is abandoned leaves nothing, and what a crash left is swept when it is old")
    func temporaries() throws {
        try store.put(path("d/one")).abandon()
        _ = try store.put(path("d/two"))
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path + "/d").isEmpty)
        for name in ["d/.tmp-old-1", "d/.tmp-new-1", "d/kept"] {
            #expect(FileManager.default.createFile(atPath: directory.path + "/" + name, contents: Data([1])))
        }
        try FileManager.default.setAttributes(
            [.modificationDate: Date(timeIntervalSinceNow: -90_000)], ofItemAtPath: directory.path + "/d/.tmp-old-1")
        #expect(try store.sweepTemporaries(in: path("d"), olderThanSeconds: 86_400) == 1)
        #expect(
            try FileManager.default.contentsOfDirectory(atPath: directory.path + "/d").sorted()
                == [".tmp-new-1", "kept"])
        #expect(try store.list(path("d")).map(\.name) == ["kept"])
    }

    @Test(
        "A7, A8: an object of which the last write only half fits is an error and leaves nothing",
        .enabled(if: SmallFileSystem.isPossible, "mounting a tmpfs needs root"))
    func halfFits() throws {
        let small = try #require(SmallFileSystem(kibibytes: 64))
        let store = PosixStore(root: small.path)
        // The kernel writes what fits and says how much; only the next call is told that there is no more.
        let error = #expect(throws: StoreError.self) {
            try store.create(path("d/large"), [UInt8](repeating: 1, count: 100_000))
        }
        #expect(error?.description.contains("o space left") == true, "\(String(describing: error))")
        let writer = try store.put(path("d/streamed"))
        #expect(throws: StoreError.self) { try writer.write([UInt8](repeating: 2, count: 100_000)) }
        writer.abandon()
        #expect(try FileManager.default.contentsOfDirectory(atPath: small.path + "/d").isEmpty)
        #expect(try store.create(path("d/fits"), [1, 2, 3]) == .created)
    }

    @Test("S11: files are 0600 and directories 0700 whatever the umask")
    func modes() throws {
        let old = umask(0)
        defer { umask(old) }
        _ = try store.create(path("m/n/o"), [1])
        func mode(_ name: String) throws -> Int {
            let attributes = try FileManager.default.attributesOfItem(atPath: directory.path + "/" + name)
            return (attributes[.posixPermissions] as? NSNumber)?.intValue ?? -1
        }
        #expect(try mode("m") == 0o700)
        #expect(try mode("m/n") == 0o700)
        #expect(try mode("m/n/o") == 0o600)
    }

    @Test("S2: links planted in the repository are not followed")
    func links() throws {
        let outside = try TemporaryDirectory("outside")
        try Data([9]).write(to: URL(fileURLWithPath: outside.path + "/secret"))
        try FileManager.default.createSymbolicLink(
            atPath: directory.path + "/linked", withDestinationPath: outside.path)
        _ = try store.create(path("real/x"), [1])
        try FileManager.default.createSymbolicLink(
            atPath: directory.path + "/real/link", withDestinationPath: outside.path + "/secret")
        #expect(throws: StoreError.self) { try store.create(path("linked/new"), [1]) }
        #expect(throws: StoreError.self) { try store.read(path("linked/secret"), limit: 10) }
        #expect(throws: StoreError.self) { try store.read(path("real/link"), limit: 10) }
        #expect(throws: StoreError.self) { try store.describe(path("real/link")) }
        #expect(try FileManager.default.contentsOfDirectory(atPath: outside.path) == ["secret"])
        try store.delete(path("real/link"))
        #expect(FileManager.default.fileExists(atPath: outside.path + "/secret"))
    }

    @Test("a repository that is away is named, and used again when it is back")
    func away() throws {
        _ = try store.create(path("a/b"), [1])
        let elsewhere = directory.path + ".away"
        try FileManager.default.moveItem(atPath: directory.path, toPath: elsewhere)
        for attempt in 0..<2 {
            do throws(StoreError) {
                if attempt == 0 { _ = try store.create(path("a/c"), [1]) } else { _ = try store.list(path("a")) }
                Issue.record("a store that is away answered")
            } catch {
                #expect(error.reason == .away)
                #expect(error.diagnosis.status == .unavailable)
            }
        }
        try FileManager.default.moveItem(atPath: elsewhere, toPath: directory.path)
        #expect(try store.create(path("a/c"), [1]) == .created)
        #expect(try store.list(path("a")).map(\.name) == ["b", "c"])
    }

    @Test("its clock and an object's time agree, and a long object is refused, not read")
    func clockAndLimits() throws {
        let before = try store.now()
        _ = try store.create(path("a/b"), [UInt8](repeating: 1, count: 100))
        let modified = try #require(try store.describe(path("a/b"))).modified
        #expect(before <= modified)
        #expect(try modified <= store.now())
        do throws(StoreError) {
            _ = try store.read(path("a/b"), limit: 99)
            Issue.record("it was read")
        } catch {
            #expect(error.reason == .tooLarge(limit: 99))
        }
        #expect(try store.read(path("a/none"), limit: 9) == nil)
        #expect(try store.list(path("none")).isEmpty)
        try store.delete(path("a/none"))
        try store.delete(path("none/none"))
    }
}

/// A file system of some KiB in memory, unmounted when it goes.
private final class SmallFileSystem {
    private let directory: TemporaryDirectory
    var path: String { directory.path }
    static let isPossible = SmallFileSystem(kibibytes: 64) != nil

    init?(kibibytes: Int) {
        guard let directory = try? TemporaryDirectory("small"),
            mount("tmpfs", directory.path, "tmpfs", 0, "size=\(kibibytes)k,mode=0700") == 0
        else { return nil }
        self.directory = directory
    }

    deinit { umount2(directory.path, Int32(MNT_DETACH)) }
}

@Suite("Names never leave the root")
struct RepositoryNameTests {
    static let hostile = [
        "", "/", "..", "a/..", "../a", "a//b", "/a", "a/", ".a", "a/.b", "a\0b", "a\nb", "a\u{1B}[31m", "a b", "ä",
        "a\\b", String(repeating: "x", count: 10_000_000),
    ]

    @Test("S3: paths of objects with anything but plain names are refused before any I/O")
    func paths() throws {
        for name in Self.hostile { #expect(ObjectPath(name) == nil, "\(printable(name))") }
    }

    @Test("S3: cluster names, labels, locks and backup ids are refused before any I/O")
    func names() throws {
        let machine = FakeMachine("m").environment
        for name in Self.hostile {
            let store = MemoryStore()
            #expect(throws: RepositoryError.self) {
                _ = try Repository.openOrCreate(
                    store, cluster: name, systemIdentifier: SystemIdentifier(rawValue: 1), environment: machine)
            }
            #expect(store.paths.isEmpty)
            let repository = try Repository.openOrCreate(
                store, cluster: "main", systemIdentifier: SystemIdentifier(rawValue: 1), environment: machine)
            #expect(throws: RepositoryError.self) { _ = try repository.announceBackup(.full, label: name) }
            #expect(throws: RepositoryError.self) { _ = try repository.takeLease(name, leaseSeconds: 10) }
            #expect(throws: RepositoryError.self) { _ = try repository.continueHold(name) }
            #expect(BackupID(name) == nil)
            do {
                _ = try repository.usableBackup(named: name)
                Issue.record("it was found")
            } catch let error as RepositoryError {
                let text = error.description
                #expect(text.utf8.count < 400)
                let isPlain = text.unicodeScalars.allSatisfy { $0 == "\n" || $0 == "…" || (" "..."~").contains($0) }
                #expect(isPlain)
            }
            #expect(store.paths == ["main/cluster.json"])
        }
    }
}
