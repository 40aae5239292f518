import HoldfastCore
import HoldfastEngine
import HoldfastWire

/// How the server's databases and errors map to the engine's trees and errors: the one place that knows both.
enum EngineAdapter {
    /// The trees `0` to `15`.
    static let trees = (0..<CommandSession.databases).map(String.init)

    /// An engine's error as a reply.
    static func reply(to error: EngineError) -> String {
        switch error {
        case .disk(let cause) where cause.isNoSpace, .writesRefused(let cause) where cause.isNoSpace:
            return ErrorReplies.noSpace(error.diagnosis)
        default: return ErrorCode.reply(error.diagnosis)
        }
    }
}

// A key beyond the limit cannot be there; that is no error for who only asks.

extension Snapshot: RecordReader {
    func withValue<R>(
        _ database: Int, _ key: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer?) throws -> R
    ) throws -> R {
        guard key.count <= Limits.keyBytes else { return try body(nil) }
        return try get(EngineAdapter.trees[database], key, body)
    }

    func scan(
        _ database: Int, from: UnsafeRawBufferPointer?, to: UnsafeRawBufferPointer?, reverse: Bool,
        _ body: (UnsafeRawBufferPointer, UnsafeRawBufferPointer) throws -> Bool
    ) throws {
        try scan(EngineAdapter.trees[database], from: from, to: to, reverse: reverse, body)
    }

    func count(_ database: Int) throws -> Int { Int(clamping: try count(EngineAdapter.trees[database])) }
}

/// A snapshot for a burst of reads of one database, whose tree is found once.
struct BurstReader: RecordReader {
    /// Lives, borrowed, while `with` runs.
    private let snapshot: UnsafePointer<Snapshot>
    private let database: Int
    private let tree: TreeReference?

    /// Calls `body` with a reader that must not outlive it.
    static func with<R>(_ snapshot: borrowing Snapshot, _ database: Int, _ body: (BurstReader) throws -> R) throws -> R
    {
        let tree = try snapshot.tree(EngineAdapter.trees[database])
        return try withUnsafePointer(to: snapshot) {
            try body(BurstReader(snapshot: $0, database: database, tree: tree))
        }
    }

    func withValue<R>(
        _ database: Int, _ key: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer?) throws -> R
    ) throws -> R {
        guard database == self.database else { return try snapshot.pointee.withValue(database, key, body) }
        guard let tree, key.count <= Limits.keyBytes else { return try body(nil) }
        return try snapshot.pointee.get(tree, key, body)
    }

    func scan(
        _ database: Int, from: UnsafeRawBufferPointer?, to: UnsafeRawBufferPointer?, reverse: Bool,
        _ body: (UnsafeRawBufferPointer, UnsafeRawBufferPointer) throws -> Bool
    ) throws {
        try snapshot.pointee.scan(database, from: from, to: to, reverse: reverse, body)
    }

    func count(_ database: Int) throws -> Int { try snapshot.pointee.count(database) }
}

extension Transaction: RecordEditor {
    func withValue<R>(
        _ database: Int, _ key: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer?) throws -> R
    ) throws -> R {
        guard key.count <= Limits.keyBytes else { return try body(nil) }
        return try get(EngineAdapter.trees[database], key, body)
    }

    func scan(
        _ database: Int, from: UnsafeRawBufferPointer?, to: UnsafeRawBufferPointer?, reverse: Bool,
        _ body: (UnsafeRawBufferPointer, UnsafeRawBufferPointer) throws -> Bool
    ) throws {
        try scan(EngineAdapter.trees[database], from: from, to: to, reverse: reverse, body)
    }

    func count(_ database: Int) throws -> Int { Int(clamping: try count(EngineAdapter.trees[database])) }

    func put(_ database: Int, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) throws {
        try put(EngineAdapter.trees[database], key, value)
    }

    func remove(_ database: Int, _ key: UnsafeRawBufferPointer) throws -> Bool {
        guard key.count <= Limits.keyBytes else { return false }
        return try delete(EngineAdapter.trees[database], key)
    }

    func clear(_ database: Int) throws { try clear(EngineAdapter.trees[database]) }
}
