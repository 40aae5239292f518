import HoldfastCore
import HoldfastEngine
import HoldfastWire
import Synchronization

/// `DIGEST [PIN lsn milliseconds]`.
///
/// `DIGEST PIN` holds a snapshot that has everything through `lsn`, at once or as soon as there is one within the time, and
/// answers as of which LSN it is: so that another node can be brought to the same. `DIGEST` reads the snapshot that the
/// connection holds, or one of now, and answers its digest; then it is let go. It is let go with the connection, too.
///
/// The lock guards `held`; nothing long runs under it.
final class DigestSession: Sendable {
    private enum Held {
        case nothing
        case snapshot(SnapshotHandle, LSN)
        case closed
    }
    private let engine: Engine
    private let held = Mutex(Held.nothing)

    /// Trees that one reply tells of by name.
    static let treesAtMost = 1024
    /// How long a `PIN` may wait.
    static let waitMilliseconds = 60_000

    init(engine: Engine) { self.engine = engine }

    func run(_ words: [String], while isConnected: () -> Bool, _ out: ReplyWriter) throws {
        switch (words.count > 1 ? words[1].uppercased() : "", words.count) {
        case ("", 1): try digest(while: isConnected, out)
        case ("PIN", 4): try pin(words, while: isConnected, out)
        case ("PIN", _): out.error(Replies.arity("digest|pin"))
        default:
            out.error("ERR unknown subcommand '\(printable(words[1]))'. Try DIGEST, or DIGEST PIN lsn milliseconds.")
        }
    }

    private func pin(_ words: [String], while isConnected: () -> Bool, _ out: ReplyWriter) throws {
        guard let lsn = LSN(words[2]) else { return out.error("ERR \"\(printable(words[2]))\" is no LSN") }
        guard let milliseconds = Int(words[3]), (0...Self.waitMilliseconds).contains(milliseconds) else {
            return out.error("ERR milliseconds are 0 to \(Self.waitMilliseconds)")
        }
        let (snapshot, at) = try engine.snapshot(through: lsn, milliseconds: milliseconds, while: isConnected)
        // Of an earlier one nobody will ask.
        let isHeld = held.withLock { held in
            if case .closed = held { return false }
            if case .snapshot(let old, _) = held { old.close() }
            held = .snapshot(snapshot, at)
            return true
        }
        guard isHeld else {
            snapshot.close()
            throw EngineError.closed
        }
        let status = engine.status
        out.fields([
            ("lsn", .simple(at.description)), ("timeline", .integer(Int64(status.timeline.rawValue))),
            ("token", .simple(status.timelineToken.description)),
            ("system_identifier", .simple(status.systemIdentifier.description)),
        ])
    }

    private func digest(while isConnected: () -> Bool, _ out: ReplyWriter) throws {
        let (snapshot, lsn) = try take()
        defer { snapshot.close() }
        let content = try ContentDigest(of: snapshot, while: isConnected)
        out.fields([
            ("lsn", .simple(lsn.description)), ("records", .integer(Int64(clamping: content.records))),
            ("digest", .simple(content.digest)), ("tree_count", .integer(Int64(content.trees.count))),
            (
                "trees",
                .array(
                    content.trees.prefix(Self.treesAtMost).map { tree in
                        .map([
                            WirePair(key: .simple("name"), value: .bulk(Array(tree.name.utf8))),
                            WirePair(key: .simple("records"), value: .integer(Int64(clamping: tree.records))),
                            WirePair(key: .simple("digest"), value: .simple(tree.digest)),
                        ])
                    })
            ),
        ])
    }

    private func take() throws -> (SnapshotHandle, LSN) {
        let pinned = try held.withLock { held -> (SnapshotHandle, LSN)? in
            switch held {
            case .closed: throw EngineError.closed
            case .nothing: return nil
            case .snapshot(let snapshot, let lsn):
                held = .nothing
                return (snapshot, lsn)
            }
        }
        if let pinned { return pinned }
        let snapshot = try engine.makeSnapshot()
        return (snapshot, snapshot.lsn)
    }

    /// The connection is gone.
    func close() {
        held.withLock { held in
            if case .snapshot(let snapshot, _) = held { snapshot.close() }
            held = .closed
        }
    }
}
