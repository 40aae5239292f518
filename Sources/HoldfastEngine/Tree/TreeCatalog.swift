import Glibc
import HoldfastCore

/// The trees of a page space by name: a tree whose root is page 1, in every page space. Its records:
///
///     key                             value
///     1, then the name                root page (4), zero (4), id (8), record count (8)
///     2, then a root page big-endian  nothing: a dropped tree whose pages are still to be freed
///
/// Numbers in values are little-endian. A drop takes constant time: it moves the root to the second
/// kind of record; `reclaimSome` frees the pages afterwards, in as many transactions as it takes.
package enum TreeCatalog {
    /// Bytes of a tree's name.
    package static let maximumNameBytes = 255
    static let named: UInt8 = 1
    static let dropped: UInt8 = 2
    static let recordBytes = 24
    /// More than all slots of 2^32 pages: who counts on from less never comes to the end of 64 bits.
    static let maximumRecords: UInt64 = 1 << 43
    static var tree: Tree { Tree(id: 0, root: PageSpace.catalogRoot, count: .max / 2) }

    /// The tree of this name, or nil. Its count is as of the last `save` that the reader sees.
    package static func find(
        _ name: UnsafeRawBufferPointer, in reader: some PageReader
    ) throws(EngineError) -> Tree? {
        guard name.count <= maximumNameBytes else { return nil }
        return try withKey(named, name) { key throws(EngineError) in
            guard let value = try tree.find(key, in: reader) else { return nil }
            return try decode(value)
        }
    }

    /// Makes an empty tree. There must be none of this name.
    package static func create(
        _ name: UnsafeRawBufferPointer, in editor: some PageEditor
    ) throws(EngineError) -> Tree {
        guard name.count <= maximumNameBytes else { throw .keyTooLong(name.count) }
        let id = try PageSpace.takeTreeID(editor)
        let (root, page) = try PageSpace.allocate(editor, kind: .leaf)
        Node(page.base).clear(level: 0)
        let made = Tree(id: id, root: root, count: 0)
        try save(made, as: name, in: editor)
        return made
    }

    /// Makes the tree's count part of the transaction: once for each tree it changed, before it commits.
    package static func save(
        _ tree: Tree, as name: UnsafeRawBufferPointer, in editor: some PageEditor
    ) throws(EngineError) {
        guard name.count <= maximumNameBytes else { throw .keyTooLong(name.count) }
        try withKey(named, name) { key throws(EngineError) in
            try withUnsafeTemporaryRecord { record throws(EngineError) in
                record.storeBytes(of: tree.root.rawValue, as: UInt32.self)
                record.storeBytes(of: tree.id, toByteOffset: 8, as: UInt64.self)
                record.storeBytes(of: tree.count, toByteOffset: 16, as: UInt64.self)
                var catalog = Self.tree
                _ = try catalog.put(key, UnsafeRawBufferPointer(record), in: editor)
            }
        }
    }

    /// Removes a tree, in constant time.
    /// - Returns: whether there was one.
    package static func drop(
        _ name: UnsafeRawBufferPointer, in editor: some PageEditor
    ) throws(EngineError) -> Bool {
        guard let tree = try find(name, in: editor) else { return false }
        var catalog = Self.tree
        _ = try withKey(named, name) { key throws(EngineError) in try catalog.delete(key, in: editor) }
        try leaveToReclaim(tree.root, editor)
        return true
    }

    /// Empties a tree in constant time. It keeps its root page, id and name: what the root held moves to a
    /// page that is left to reclaim.
    package static func clear(_ tree: inout Tree, in editor: some PageEditor) throws(EngineError) {
        let root = try Node(reading: editor.page(tree.root), tree.root)
        let isEmpty = root.isLeaf && root.count == 0
        if !isEmpty {
            if !root.isLeaf || root.mayOverflow {
                let (number, page) = try PageSpace.allocate(editor, kind: .leaf)
                // From the kind on: number, LSN and checksum are the page's own.
                page.base.advanced(by: 16).copyMemory(
                    from: try editor.page(tree.root) + 16, byteCount: Page.bytes - 16)
                try leaveToReclaim(number, editor)
            }
            Node(try editor.modify(tree.root)).clear(level: 0)
        }
        tree.count = 0
    }

    /// Calls `body` with each tree in the order of names, until it returns false. The name is borrowed.
    package static func forEach(
        in reader: some PageReader, _ body: (UnsafeRawBufferPointer, Tree) throws -> Bool
    ) throws {
        try withKey(named, UnsafeRawBufferPointer(start: nil, count: 0)) { from in
            var cursor = Cursor(tree)
            var found = try cursor.seek(atOrAbove: from, in: reader)
            while found, cursor.key.first == named {
                let name = UnsafeRawBufferPointer(rebasing: cursor.key.dropFirst())
                guard try body(name, decode(cursor.value)) else { return }
                found = try cursor.next(in: reader)
            }
        }
    }

    static func leaveToReclaim(_ root: PageNumber, _ editor: some PageEditor) throws(EngineError) {
        var catalog = Self.tree
        _ = try withReclaimKey(root) { key throws(EngineError) in
            try catalog.put(key, UnsafeRawBufferPointer(start: nil, count: 0), in: editor)
        }
    }

    static func withReclaimKey<Result>(
        _ root: PageNumber, _ body: (UnsafeRawBufferPointer) throws(EngineError) -> Result
    ) throws(EngineError) -> Result {
        var big = root.rawValue.bigEndian
        return try withBytes(of: &big) { bytes throws(EngineError) in try withKey(dropped, bytes, body) }
    }

    static func decode(_ value: StoredValue) throws(EngineError) -> Tree {
        guard value.chain == nil, value.inline.count == recordBytes, let start = value.inline.baseAddress else {
            throw damaged(PageSpace.catalogRoot, "a catalog record has \(value.count) bytes")
        }
        let root = PageNumber(start.loadUnaligned(as: UInt32.self))
        let count = start.loadUnaligned(fromByteOffset: 16, as: UInt64.self)
        guard count < maximumRecords else { throw damaged(root, "the catalog counts \(count) records in its tree") }
        return Tree(id: start.loadUnaligned(fromByteOffset: 8, as: UInt64.self), root: root, count: count)
    }

    /// Typed errors through closures of the standard library, which rethrows untyped ones only.
    private static func withBytes<Value, Result>(
        of value: inout Value, _ body: (UnsafeRawBufferPointer) throws(EngineError) -> Result
    ) throws(EngineError) -> Result {
        let outcome: Swift.Result<Result, EngineError> = withUnsafeBytes(of: &value) { bytes in
            do throws(EngineError) { return .success(try body(bytes)) } catch { return .failure(error) }
        }
        return try outcome.get()
    }

    private static func withUnsafeTemporaryRecord<Result>(
        _ body: (UnsafeMutableRawBufferPointer) throws(EngineError) -> Result
    ) throws(EngineError) -> Result {
        var record: (UInt64, UInt64, UInt64) = (0, 0, 0)
        let outcome: Swift.Result<Result, EngineError> = withUnsafeMutableBytes(of: &record) { bytes in
            do throws(EngineError) { return .success(try body(bytes)) } catch { return .failure(error) }
        }
        return try outcome.get()
    }

    static func withKey<Result, Failure: Error>(
        _ kind: UInt8, _ name: UnsafeRawBufferPointer,
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        let outcome: Swift.Result<Result, Failure> = withUnsafeTemporaryAllocation(byteCount: 256, alignment: 8) {
            key in
            key[0] = kind
            if let start = name.baseAddress { memcpy(key.baseAddress! + 1, start, name.count) }
            let whole = UnsafeRawBufferPointer(rebasing: key[0..<name.count + 1])
            do throws(Failure) { return .success(try body(whole)) } catch { return .failure(error) }
        }
        return try outcome.get()
    }
}
