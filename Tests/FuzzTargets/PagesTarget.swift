import HoldfastCore
import HoldfastEngine

/// A page space whose pages are the input's: checked, read in both directions, and then changed by a transaction.
/// Input, for each page from 0 on, without its hole:
///
///     0  2  bytes from byte 16 of the page on
///     2  2  bytes up to the page's end
///     4     both; what lies between is zero
///
/// Two bytes of 0xFF in place of a page end them; what follows are the changes, a byte each (`change`).
/// Number, LSN and checksum are put right, and page 0 claims no more pages than four times what there is: the walks are
/// bounded by that claim, and a fuzzer has no time for 2^32 pages.
package enum PagesTarget: FuzzTarget {
    package static let name = "pages"

    package static func run(_ input: UnsafeRawBufferPointer) {
        var input = FuzzInput(input)
        var pages: [FuzzPage] = []
        while !input.isEmpty, pages.count < 256 {
            let front = input.short()
            if front == 0xFFFF { break }
            let back = input.short()
            let page = FuzzPage()
            checkRaw(page, input, front + back)
            page.lay(input.take(min(front, Page.bytes - 16)), at: 16)
            let end = input.take(min(back, Page.bytes - 16))
            page.lay(end, at: Page.bytes - end.count)
            Page(page.base).number = PageNumber(UInt32(pages.count))
            Page(page.base).stampChecksum()
            pages.append(page)
        }
        guard let meta = pages.first else { return }
        let claimed = meta.base.load(fromByteOffset: 24, as: UInt32.self), most = UInt32(4 * pages.count)
        if claimed > most {
            meta.base.storeBytes(of: claimed % (most + 1), toByteOffset: 24, as: UInt32.self)
            Page(meta.base).stampChecksum()
        }
        for (number, page) in pages.enumerated() { _ = Page(page.base).fault(expected: PageNumber(UInt32(number))) }
        let space = FuzzPages(pages)
        let problems = try? StructureCheck.run(space)
        for problem in problems ?? [] { _ = problem.description }
        readAll(space)
        change(space, &input)
        // A space that was sound stays sound.
        if problems?.isEmpty == true, !space.hasFailed {
            let after = try? StructureCheck.run(space)
            expect(after?.isEmpty == true, "changes of a sound page space leave \(after?.first?.description ?? "none")")
        }
    }

    /// The bytes as they are, at the place of some page.
    private static func checkRaw(_ page: FuzzPage, _ input: FuzzInput, _ number: Int) {
        page.fill(input.rest)
        _ = Page(page.base).fault(expected: PageNumber(UInt32(number)))?.description
        page.base.initializeMemory(as: UInt8.self, repeating: 0, count: Page.bytes)
    }

    private static func trees(_ space: FuzzPages) -> [(name: [UInt8], tree: Tree)] {
        var trees: [(name: [UInt8], tree: Tree)] = []
        // Damage ends the list, with what was found before it.
        try? TreeCatalog.forEach(in: space) { name, tree in
            trees.append((Array(name), tree))
            return trees.count < 8
        }
        return trees
    }

    private static func readAll(_ space: FuzzPages) {
        // A leaf has no more slots than this, and no walk passes one twice.
        let most = space.count * (Page.bytes / 6) + 1
        for (name, tree) in trees(space) {
            name.withUnsafeBytes { _ = try? TreeCatalog.find($0, in: space) }
            for reverse in [false, true] {
                var seen = 0
                try? tree.scan(in: space, reverse: reverse) { key, value in
                    seen += 1
                    expect(seen <= most, "a scan of \(space.count) pages does not end")
                    if seen % 7 == 1 { try readValue(key, value, tree, space) }
                    return true
                }
            }
            let (low, high): ([UInt8], [UInt8]) = ([0x20], [0x70, 0x70])
            low.withUnsafeBytes { low in
                high.withUnsafeBytes { high in
                    _ = try? tree.count(in: space, from: low, to: high)
                    try? tree.scan(in: space, from: low, to: high) { _, _ in true }
                    try? tree.scan(in: space, from: low, to: high, reverse: true) { _, _ in true }
                }
            }
        }
    }

    private static func readValue(
        _ key: UnsafeRawBufferPointer, _ value: StoredValue, _ tree: Tree, _ space: FuzzPages
    ) throws {
        let sum = try value.withBytes(in: space) { bytes in
            expect(bytes.count <= space.bytes * 4, "a value of \(bytes.count) bytes from \(space.bytes)")
            return bytes.reduce(0) { $0 &+ UInt64($1) }
        }
        _ = sum
        let copy = Array(key)
        try copy.withUnsafeBytes { key in
            _ = try tree.find(key, in: space)
            _ = try tree.contains(key, in: space)
        }
    }

    /// Each byte is a change of one of the trees; a change that throws ends the transaction.
    private static func change(_ space: FuzzPages, _ input: inout FuzzInput) {
        var trees = trees(space)
        do throws(EngineError) {
            for _ in 0..<64 where !input.isEmpty {
                let what = input.byte()
                let key = Array(repeating: what, count: Int(what) * 5 % 60)
                if trees.isEmpty || what % 16 == 15 {
                    let name = Array("t\(what)".utf8)
                    if try exists(name, space) { continue }
                    trees.append(
                        (
                            name,
                            try withBytes(name) { name throws(EngineError) in
                                try TreeCatalog.create(name, in: space)
                            }
                        ))
                    continue
                }
                let index = Int(what) % trees.count
                switch what / 32 {
                case 0, 1, 2: try put(key, [UInt8](repeating: what, count: Int(what) * 11), &trees[index].tree, space)
                case 3: try put(key, [UInt8](repeating: what, count: 9000), &trees[index].tree, space)
                case 4, 5:
                    // A key that is there, if there is one.
                    var found = key
                    var cursor = Cursor(trees[index].tree)
                    let isThere = try withBytes(key) { key throws(EngineError) in
                        try cursor.seek(atOrAbove: key, in: space)
                    }
                    if isThere { found = Array(cursor.key) }
                    _ = try withBytes(found) { key throws(EngineError) in try trees[index].tree.delete(key, in: space) }
                case 6:
                    if what & 1 == 0 {
                        try TreeCatalog.clear(&trees[index].tree, in: space)
                    } else {
                        _ = try TreeCatalog.reclaimSome(space, budgetPages: 3)
                    }
                default:
                    _ = try withBytes(trees[index].name) { name throws(EngineError) in
                        try TreeCatalog.drop(name, in: space)
                    }
                    trees.remove(at: index)
                }
            }
            for (name, tree) in trees {
                try withBytes(name) { name throws(EngineError) in try TreeCatalog.save(tree, as: name, in: space) }
            }
        } catch {
            space.hasFailed = true
            _ = error.description
        }
    }

    private static func exists(_ name: [UInt8], _ space: FuzzPages) throws(EngineError) -> Bool {
        try withBytes(name) { name throws(EngineError) in try TreeCatalog.find(name, in: space) } != nil
    }

    private static func put(
        _ key: [UInt8], _ value: [UInt8], _ tree: inout Tree, _ space: FuzzPages
    ) throws(EngineError) {
        _ = try withBytes(key) { key throws(EngineError) in
            try withBytes(value) { value throws(EngineError) in try tree.put(key, value, in: space) }
        }
    }

    /// `withUnsafeBytes` with the error's type kept.
    private static func withBytes<R>(
        _ bytes: [UInt8], _ body: (UnsafeRawBufferPointer) throws(EngineError) -> R
    ) throws(EngineError) -> R {
        let result: Result<R, EngineError> = bytes.withUnsafeBytes { buffer in
            do throws(EngineError) { return .success(try body(buffer)) } catch { return .failure(error) }
        }
        return try result.get()
    }

    // MARK: Seeds

    package static func seeds() throws -> [[UInt8]] {
        try [0, 3, 40, 200].map { records in
            let space = FuzzPages([])
            try PageSpace.format(space)
            for number in 0..<3 {
                let name = Array("tree-\(number)".utf8)
                var tree = try withBytes(name) { name throws(EngineError) in try TreeCatalog.create(name, in: space) }
                for record in 0..<records {
                    let key = Array("user:\(record * 7919 % 1009)".utf8)
                    // Some lie in a chain of pages.
                    let size = record % 37 == 5 ? 9000 : 20 + record % 50
                    try put(key, [UInt8](repeating: UInt8(record % 256), count: size), &tree, space)
                }
                try withBytes(name) { name throws(EngineError) in try TreeCatalog.save(tree, as: name, in: space) }
                if number == 2 {
                    _ = try withBytes(name) { name throws(EngineError) in try TreeCatalog.drop(name, in: space) }
                }
            }
            _ = try TreeCatalog.reclaimSome(space, budgetPages: 2)
            return space.encoded() + [0xFF, 0xFF, 1, 40, 70, 100, 130, 170, 15, 195, 200, 230, 60, 90]
        }
    }
}
