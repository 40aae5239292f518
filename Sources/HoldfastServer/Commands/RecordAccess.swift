import HoldfastEngine

/// How commands read records: a snapshot, or the writer's transaction. Generic, never an existential.
///
/// A database is one of the trees `0` to `15`. Borrowed bytes are valid until `body` returns.
protocol RecordReader: ~Copyable {
    /// Calls `body` with the value of `key`, or with nil.
    func withValue<R>(
        _ database: Int, _ key: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer?) throws -> R
    ) throws -> R

    /// Calls `body` with each record whose key lies in `from ..< to`, in order of bytes, until it returns false.
    /// nil is no bound.
    func scan(
        _ database: Int, from: UnsafeRawBufferPointer?, to: UnsafeRawBufferPointer?, reverse: Bool,
        _ body: (UnsafeRawBufferPointer, UnsafeRawBufferPointer) throws -> Bool) throws

    func count(_ database: Int) throws -> Int
}

/// The writer's transaction.
protocol RecordEditor: RecordReader, ~Copyable {
    func put(_ database: Int, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) throws
    /// false: it was not there.
    func remove(_ database: Int, _ key: UnsafeRawBufferPointer) throws -> Bool
    func clear(_ database: Int) throws
}

/// What a command knows of the connection it runs for, wherever it runs.
struct CommandSession {
    /// The selected tree, 0 to 15.
    var database = 0
    /// Which followers the connection's writes wait for; `nil`: the node's.
    var synchronous: SynchronousChoice?
    /// What the connection watches.
    let watches: WatchToken
    /// The same while its `EXEC` runs: its own changes do not fail it.
    var executing: WatchToken?
    /// How many commands have changed something: each is a transaction of its own in a fused commit.
    var changes = 0

    static let databases = 16
}

/// Error texts that more than one command gives, word for word as Redis has them.
enum Replies {
    static let syntax = "ERR syntax error"
    static let notInteger = "ERR value is not an integer or out of range"
    static let notShortInteger =
        "ERR value is out of range, value must between \(Int32.min) and \(Int32.max)"
    static let tooLarge = "ERR string exceeds maximum allowed size (proto-max-bulk-len)"
    static let keyTooLong = "ERR the key is longer than \(Limits.keyBytes) bytes"
    static let notPermitted = "NOPERM this connection has no permissions to run "
    static func arity(_ name: String) -> String { "ERR wrong number of arguments for '\(name)' command" }
}
