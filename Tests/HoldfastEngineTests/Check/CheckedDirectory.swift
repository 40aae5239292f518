import HoldfastCore
import HoldfastTestSupport
import Testing

@testable import HoldfastEngine

/// A directory that was closed in order, with branches, a chain and a free list, whose pages can be found and changed.
struct CheckedDirectory {
    let disk: SimulatedDisk
    let root: PageNumber
    /// The first two leaves of the tree at `root`.
    let leaf: PageNumber
    let secondLeaf: PageNumber
    let overflow: PageNumber
    let freeList: PageNumber

    static func filled() throws -> CheckedDirectory {
        let disk = try CrashTests.initialized(seed: 21)
        let engine = try Engine(opening: disk, options: quietOptions())
        try engine.write { transaction in
            for n in 0..<1500 {
                try transaction.put("t", EngineModel.key(n), [UInt8](repeating: UInt8(n & 255), count: 90))
            }
            try transaction.put("big", bytes("k"), [UInt8](repeating: 7, count: 50_000))
            try transaction.put("gone", bytes("k"), [UInt8](repeating: 8, count: 200_000))
        }
        try engine.write { _ = try $0.delete("gone", bytes("k")) }
        let found = try engine.read { snapshot in
            try snapshot.operation { view in
                func tree(_ name: String) throws -> Tree {
                    try bytes(name).withUnsafeBytes { try #require(try TreeCatalog.find($0, in: view)) }
                }
                let root = try tree("t").root
                let node = try Node(reading: view.page(root), root)
                let big = try tree("big").root
                let cell = try Node(reading: view.page(big), big).cell(0, big)
                return (
                    root, try node.child(0, root), try node.child(1, root), try OverflowChain(cell, big).first,
                    try Meta(reading: view.page(PageNumber(0))).freeHead
                )
            }
        }
        #expect(found.4.rawValue > 0, "there is a free list")
        try engine.close()
        return CheckedDirectory(
            disk: disk.afterKill(seed: 1), root: found.0, leaf: found.1, secondLeaf: found.2, overflow: found.3,
            freeList: found.4)
    }

    func copy() -> CheckedDirectory {
        CheckedDirectory(
            disk: disk.afterKill(seed: 1), root: root, leaf: leaf, secondLeaf: secondLeaf, overflow: overflow,
            freeList: freeList)
    }

    /// Changes a page where it lies; with a checksum that fits again, but where the damage is of the bytes themselves.
    func edit(_ page: PageNumber, stamping: Bool = true, _ change: (UnsafeMutableRawPointer) throws -> Void) rethrows {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Page.bytes, alignment: 4096)
        defer { buffer.deallocate() }
        let at = Int(page.fileOffset)
        buffer.copyBytes(from: disk.contents()[PageNumber.filePath(0)]![at..<at + Page.bytes])
        try change(buffer.baseAddress!)
        if stamping { Page(buffer.baseAddress!).checksum = Page(buffer.baseAddress!).computedChecksum(as: page) }
        disk.damage(PageNumber.filePath(0)) { $0.replaceSubrange(at..<at + Page.bytes, with: buffer) }
    }

    /// Checks it, which must leave every byte as it is.
    func check() throws -> CheckResult {
        let before = disk.contents()
        let result = try DirectoryCheck(disk: disk).run()
        #expect(disk.contents() == before, "a check wrote something")
        return result
    }
}

extension CheckResult {
    func names(_ object: String, _ words: String) -> Bool {
        problems.contains { $0.object == object && $0.problem.contains(words) }
    }
}
