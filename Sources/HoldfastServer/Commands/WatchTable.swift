import Synchronization

/// What one connection watches, and whether any of it has changed since.
final class WatchToken: Sendable {
    private let dirty = Atomic(false)
    /// Set once a watched key was changed; never cleared: `UNWATCH`, `EXEC` and `DISCARD` take a new token.
    var isDirty: Bool { dirty.load(ordering: .acquiring) }
    func markDirty() { dirty.store(true, ordering: .releasing) }
}

/// Who watches which key.
///
/// `WATCH`, every change and `EXEC` run in the writer's transaction, so that they are in one order: a change is either
/// before the `WATCH`, and then durable and published before `WATCH` is answered, or it marks the token before `EXEC`
/// looks at it. A transaction that is rolled back and run again may mark a token of another connection for nothing: then
/// its `EXEC` fails once too often, and its client tries again. An `EXEC` never marks its own, or it would fail each time.
///
/// The lock guards `state`; `count` lets writers pass without it while nobody watches anything. That is safe because
/// `watch` and `noteChange` both run under the writer's lock.
final class WatchTable: Sendable {
    private struct Key: Hashable {
        var database: Int
        var bytes: [UInt8]
    }

    private struct State {
        var watchers: [Key: [WatchToken]] = [:]
        var keys: [ObjectIdentifier: [Key]] = [:]
    }

    private let state = Mutex(State())
    private let count = Atomic(0)

    func watch(_ token: WatchToken, _ database: Int, _ key: UnsafeRawBufferPointer) {
        state.withLock { state in
            let key = Key(database: database, bytes: Array(key))
            guard state.watchers[key]?.contains(where: { $0 === token }) != true else { return }
            state.watchers[key, default: []].append(token)
            state.keys[ObjectIdentifier(token), default: []].append(key)
            count.store(state.watchers.count, ordering: .releasing)
        }
    }

    @inline(__always)
    func noteChange(_ database: Int, _ key: UnsafeRawBufferPointer, by session: borrowing CommandSession) {
        if count.load(ordering: .acquiring) > 0 { mark(database, key, session.executing) }
    }

    private func mark(_ database: Int, _ key: UnsafeRawBufferPointer, _ executing: WatchToken?) {
        state.withLock { state in
            for token in state.watchers[Key(database: database, bytes: Array(key))] ?? [] where token !== executing {
                token.markDirty()
            }
        }
    }

    /// All keys of a database are about to go: those that `exists` says are there.
    func noteClear(
        _ database: Int, by executing: WatchToken?, exists: (UnsafeRawBufferPointer) throws -> Bool
    ) rethrows {
        guard count.load(ordering: .acquiring) > 0 else { return }
        // Reading may wait for the disk, and the loop needs the lock: so it is not held meanwhile.
        let watched = state.withLock { state in state.watchers.filter { $0.key.database == database } }
        for (key, tokens) in watched where try key.bytes.withUnsafeBytes({ try exists($0) }) {
            for token in tokens where token !== executing { token.markDirty() }
        }
    }

    /// Forgets a token: its connection is gone, or watches nothing any more.
    func forget(_ token: WatchToken) {
        guard count.load(ordering: .acquiring) > 0 else { return }
        state.withLock { state in
            for key in state.keys.removeValue(forKey: ObjectIdentifier(token)) ?? [] {
                let rest = state.watchers[key]?.filter { $0 !== token } ?? []
                state.watchers[key] = rest.isEmpty ? nil : rest
            }
            count.store(state.watchers.count, ordering: .releasing)
        }
    }
}
