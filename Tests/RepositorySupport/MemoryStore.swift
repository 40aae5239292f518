import HoldfastCore
import HoldfastRepository
import Synchronization

/// A store in memory, with a clock that the test turns.
package final class MemoryStore: ObjectStore {
    private struct State {
        var objects: [ObjectPath: (bytes: [UInt8], modified: Timestamp)] = [:]
        var now = Timestamp("2026-11-23T02:15:00Z")!
    }
    private let state = Mutex(State())

    package init() {}

    package let place = "memory"

    package func advance(seconds: Int64) {
        state.withLock { $0.now = $0.now.advanced(bySeconds: seconds) }
    }

    /// Every object, for comparisons.
    package var paths: [String] { state.withLock { $0.objects.keys.map(\.text).sorted() } }

    /// Puts bytes where they do not belong: damage.
    package func overwrite(_ path: ObjectPath, _ bytes: [UInt8]) {
        state.withLock { $0.objects[path] = (bytes, $0.now) }
    }

    package func create(_ path: ObjectPath, _ bytes: [UInt8]) throws(StoreError) -> Creation {
        state.withLock { state in
            if let existing = state.objects[path] { return existing.bytes == bytes ? .equal : .different }
            state.objects[path] = (bytes, state.now)
            return .created
        }
    }

    package func put(_ path: ObjectPath) throws(StoreError) -> any ObjectWriter { MemoryWriter(self, path) }

    package func open(_ path: ObjectPath) throws(StoreError) -> any StoredObject {
        guard let bytes = state.withLock({ $0.objects[path]?.bytes }) else {
            throw StoreError("open", path.text, .missing)
        }
        return MemoryObject(path, bytes)
    }

    package func read(_ path: ObjectPath, limit: Int) throws(StoreError) -> [UInt8]? {
        guard let bytes = state.withLock({ $0.objects[path]?.bytes }) else { return nil }
        guard bytes.count <= limit else { throw StoreError("read", path.text, .tooLarge(limit: limit)) }
        return bytes
    }

    package func list(_ directory: ObjectPath) throws(StoreError) -> [ObjectListing] {
        state.withLock { state in
            state.objects.filter { $0.key.parent == directory }.map {
                ObjectListing(path: $0.key, bytes: UInt64($0.value.bytes.count), modified: $0.value.modified)
            }.sorted { $0.path < $1.path }
        }
    }

    package func listDirectories(_ directory: ObjectPath?) throws(StoreError) -> [String] {
        let prefix = directory.map { $0.parts } ?? []
        return state.withLock { state in
            Set(
                state.objects.keys.map(\.parts).filter { $0.count > prefix.count + 1 && $0.starts(with: prefix) }
                    .map { $0[prefix.count] }
            ).sorted()
        }
    }

    package func describe(_ path: ObjectPath) throws(StoreError) -> ObjectListing? {
        state.withLock { state in
            state.objects[path].map {
                ObjectListing(path: path, bytes: UInt64($0.bytes.count), modified: $0.modified)
            }
        }
    }

    package func confirm(_ path: ObjectPath) throws(StoreError) -> ObjectListing? { try describe(path) }
    package func delete(_ path: ObjectPath) throws(StoreError) { state.withLock { $0.objects[path] = nil } }
    package func now() throws(StoreError) -> Timestamp { state.withLock { $0.now } }
    package func sweepTemporaries(in directory: ObjectPath, olderThanSeconds: Int64) throws(StoreError) -> Int { 0 }
}

/// Used by one thread at a time, as any writer: the lock only says so to the compiler.
private final class MemoryWriter: ObjectWriter {
    let path: ObjectPath
    private let store: MemoryStore
    private let content = Mutex<[UInt8]>([])

    init(_ store: MemoryStore, _ path: ObjectPath) {
        self.store = store
        self.path = path
    }

    var bytes: UInt64 { UInt64(content.withLock { $0.count }) }
    func write(_ buffer: UnsafeRawBufferPointer) throws(StoreError) {
        content.withLock { $0.append(contentsOf: buffer) }
    }
    func finish() throws(StoreError) -> Creation {
        try store.create(path, content.withLock { $0 }) == .created ? .created : .different
    }
    func abandon() { content.withLock { $0 = [] } }
}

private final class MemoryObject: StoredObject {
    let path: ObjectPath
    private let content: [UInt8]

    init(_ path: ObjectPath, _ content: [UInt8]) {
        self.path = path
        self.content = content
    }

    var bytes: UInt64 { UInt64(content.count) }
    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(StoreError) -> Int {
        guard offset < bytes else { return 0 }
        let part = content[Int(offset)..<min(content.count, Int(offset) + buffer.count)]
        buffer.copyBytes(from: part)
        return part.count
    }
    func close() {}
}
