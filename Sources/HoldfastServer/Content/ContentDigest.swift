import Crypto
import HoldfastCore
import HoldfastEngine

/// What tells whether two nodes hold the same records: a SHA-256 over all trees of a snapshot, by what they hold and not by
/// how their pages lie.
///
/// Of a tree: for each record, in the order of keys,
///
///     key length     4 bytes, least first
///     value length   4 bytes, least first
///     key, value
///
/// Of the content: for each tree, in the order of names,
///
///     name length    4 bytes, least first
///     name           UTF-8
///     records        8 bytes, least first
///     tree's digest  32 bytes
package struct ContentDigest: Sendable, Equatable {
    package struct Tree: Sendable, Equatable {
        package var name: String
        package var records: UInt64
        /// 64 lower-case hex digits.
        package var digest: String

        package init(name: String, records: UInt64, digest: String) {
            self.name = name
            self.records = records
            self.digest = digest
        }
    }

    /// In all trees.
    package var records: UInt64
    /// 64 lower-case hex digits.
    package var digest: String
    /// In the order of names.
    package var trees: [Tree]

    package init(records: UInt64, digest: String, trees: [Tree]) {
        self.records = records
        self.digest = digest
        self.trees = trees
    }

    /// Bytes of records that are read at a time, between which the memory of pages is let go.
    private static let stepBytes = 1 << 20

    /// Reads everything. Blocking, and it may take minutes: run it on a thread of its own. Memory: about 1 MiB, the largest
    /// value, and the versions that the snapshot keeps. Nobody waits for it.
    ///
    /// - Parameters:
    ///   - goesOn: asked at each step; `false` ends with `EngineError.closed`.
    ///   - progress: told how many records have been read, at each step.
    /// - Throws: `snapshotTooOld` when the writes of meanwhile need more memory for old versions than there is; `damagedPage`,
    ///   `damagedTree`, `disk`, `closed`.
    package init(
        of snapshot: SnapshotHandle, while goesOn: () -> Bool = { true }, progress: (UInt64) -> Void = { _ in }
    ) throws {
        var all = SHA256()
        var trees: [Tree] = []
        var records: UInt64 = 0
        let buffer = HashBuffer()
        for summary in try snapshot.read({ try $0.trees() }) {
            let before = records
            try Self.scan(summary.name, snapshot, goesOn) { key, value in
                buffer.append(UInt32(key.count))
                buffer.append(UInt32(value.count))
                buffer.append(key)
                buffer.append(value)
                records += 1
            } step: {
                progress(records)
            }
            let digest = Array(buffer.finish())
            let name = Array(summary.name.utf8)
            trees.append(Tree(name: summary.name, records: records - before, digest: Self.hexadecimal(digest)))
            all.update(data: Self.bytes(UInt32(name.count)) + name)
            all.update(data: Self.bytes(records - before) + digest)
        }
        self.init(records: records, digest: Self.hexadecimal(Array(all.finalize())), trees: trees)
    }

    private static func scan(
        _ name: String, _ snapshot: SnapshotHandle, _ goesOn: () -> Bool,
        _ body: (UnsafeRawBufferPointer, UnsafeRawBufferPointer) -> Void, step: () -> Void
    ) throws {
        var from: [UInt8]? = []
        while let start = from {
            guard goesOn() else { throw EngineError.closed }
            from = try snapshot.read { snapshot -> [UInt8]? in
                var next: [UInt8]?
                var bytes = 0
                try start.withUnsafeBytes { start in
                    try snapshot.scan(name, from: start.isEmpty ? nil : start) { key, value in
                        body(key, value)
                        bytes += key.count + value.count
                        guard bytes >= stepBytes else { return true }
                        // The least key that is greater.
                        next = Array(key) + [0]
                        return false
                    }
                }
                return next
            }
            step()
        }
    }

    private static func bytes<I: FixedWidthInteger>(_ value: I) -> [UInt8] {
        withUnsafeBytes(of: value.littleEndian) { Array($0) }
    }

    private static func hexadecimal(_ bytes: [UInt8]) -> String {
        bytes.map { HoldfastCore.hexadecimal(UInt64($0), digits: 2).lowercased() }.joined()
    }

    /// The first tree, by name, that differs, with what each side has of it; `nil` when the trees are equal.
    package static func firstDifference(_ a: ContentDigest, _ b: ContentDigest) -> (name: String, Tree?, Tree?)? {
        let (left, right) = (a.trees.indexed, b.trees.indexed)
        // By bytes, as the trees themselves are sorted: strings that look alike are not one.
        let names = Set(left.keys).union(right.keys).sorted { $0.lexicographicallyPrecedes($1) }
        for name in names where left[name] != right[name] {
            return (String(decoding: name, as: UTF8.self), left[name], right[name])
        }
        return nil
    }
}

extension [ContentDigest.Tree] {
    fileprivate var indexed: [[UInt8]: ContentDigest.Tree] {
        reduce(into: [:]) { $0[[UInt8]($1.name.utf8)] = $1 }
    }
}

/// Hashes in large pieces what comes in small ones.
private final class HashBuffer {
    private static let bytes = 64 << 10
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes, alignment: 16)
    private var used = 0
    private var hash = SHA256()

    deinit { buffer.deallocate() }

    func append(_ value: UInt32) { withUnsafeBytes(of: value.littleEndian) { append($0) } }

    func append(_ bytes: UnsafeRawBufferPointer) {
        if bytes.count > Self.bytes - used { flush() }
        if bytes.count >= Self.bytes { return hash.update(bufferPointer: bytes) }
        UnsafeMutableRawBufferPointer(rebasing: buffer[used...]).copyMemory(from: bytes)
        used += bytes.count
    }

    private func flush() {
        hash.update(bufferPointer: UnsafeRawBufferPointer(rebasing: buffer[..<used]))
        used = 0
    }

    /// The digest of what came since the last call.
    func finish() -> SHA256.Digest {
        flush()
        defer { hash = SHA256() }
        return hash.finalize()
    }
}
