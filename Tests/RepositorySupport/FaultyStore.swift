import HoldfastCore
import HoldfastRepository
import Synchronization

/// A store that fails, or "crashes", at its n-th operation. A crash is an operation that was carried out or not,
/// without an answer, after which no operation is: what the store holds then is what a killed process leaves.
package final class FaultyStore: ObjectStore {
    package enum Fault: Sendable, CaseIterable {
        /// The operation fails, and those behind it work.
        case failOnce
        /// It is not carried out, nor is anything after it.
        case crashBefore
        /// It is carried out, and nothing after it.
        case crashAfter
    }

    private struct State {
        var operations = 0
        var faultAt: Int?
        var fault = Fault.failOnce
        var crashed = false
        var before: (name: String, body: @Sendable () -> Void)?
    }

    private let store: any ObjectStore
    private let state = Mutex(State())

    package init(_ store: any ObjectStore) { self.store = store }

    /// Operations so far.
    package var operations: Int { state.withLock { $0.operations } }

    /// Plants a fault at operation `number` (from 0), counted from now.
    package func plant(_ fault: Fault, at number: Int) {
        state.withLock { $0 = State(operations: 0, faultAt: number, fault: fault) }
    }

    package func heal() { state.withLock { $0 = State() } }

    /// Runs `body` once, before the next operation called `name`.
    package func before(_ name: String, _ body: @escaping @Sendable () -> Void) {
        state.withLock { $0.before = (name, body) }
    }

    package var place: String { store.place }

    fileprivate func operate<R>(_ name: String, _ body: () throws(StoreError) -> R) throws(StoreError) -> R {
        let planted = StoreError(name, store.place, .injected("a planted fault"))
        let hook = state.withLock { state in
            guard state.before?.name == name else { return nil as (@Sendable () -> Void)? }
            defer { state.before = nil }
            return state.before?.body
        }
        hook?()
        let fault: Fault? = state.withLock { state in
            if state.crashed { return .crashBefore }
            defer { state.operations += 1 }
            guard state.operations == state.faultAt else { return nil }
            state.crashed = state.fault != .failOnce
            return state.fault
        }
        switch fault {
        case nil: return try body()
        case .failOnce, .crashBefore: throw planted
        case .crashAfter:
            _ = try body()
            throw planted
        }
    }

    package func create(_ path: ObjectPath, _ bytes: [UInt8]) throws(StoreError) -> Creation {
        try operate("create") { () throws(StoreError) in try store.create(path, bytes) }
    }

    package func put(_ path: ObjectPath) throws(StoreError) -> any ObjectWriter {
        let writer = try operate("put") { () throws(StoreError) in try store.put(path) }
        return FaultyWriter(writer, self)
    }

    package func open(_ path: ObjectPath) throws(StoreError) -> any StoredObject {
        try operate("open") { () throws(StoreError) in try store.open(path) }
    }

    package func read(_ path: ObjectPath, limit: Int) throws(StoreError) -> [UInt8]? {
        try operate("read") { () throws(StoreError) in try store.read(path, limit: limit) }
    }

    package func list(_ directory: ObjectPath) throws(StoreError) -> [ObjectListing] {
        try operate("list") { () throws(StoreError) in try store.list(directory) }
    }

    package func listDirectories(_ directory: ObjectPath?) throws(StoreError) -> [String] {
        try operate("list") { () throws(StoreError) in try store.listDirectories(directory) }
    }

    package func describe(_ path: ObjectPath) throws(StoreError) -> ObjectListing? {
        try operate("describe") { () throws(StoreError) in try store.describe(path) }
    }

    package func confirm(_ path: ObjectPath) throws(StoreError) -> ObjectListing? {
        try operate("confirm") { () throws(StoreError) in try store.confirm(path) }
    }

    package func delete(_ path: ObjectPath) throws(StoreError) {
        try operate("delete") { () throws(StoreError) in try store.delete(path) }
    }

    package func now() throws(StoreError) -> Timestamp {
        try operate("now") { () throws(StoreError) in try store.now() }
    }

    package func sweepTemporaries(in directory: ObjectPath, olderThanSeconds: Int64) throws(StoreError) -> Int {
        try operate("sweep") { () throws(StoreError) in
            try store.sweepTemporaries(in: directory, olderThanSeconds: olderThanSeconds)
        }
    }
}

/// One thread at a time uses it, as any writer; the wrapped writer orders itself.
private final class FaultyWriter: ObjectWriter {
    private let writer: any ObjectWriter
    private let store: FaultyStore

    init(_ writer: any ObjectWriter, _ store: FaultyStore) {
        self.writer = writer
        self.store = store
    }

    var path: ObjectPath { writer.path }
    var bytes: UInt64 { writer.bytes }
    func write(_ buffer: UnsafeRawBufferPointer) throws(StoreError) {
        try store.operate("write") { () throws(StoreError) in try writer.write(buffer) }
    }
    func finish() throws(StoreError) -> Creation {
        try store.operate("finish") { () throws(StoreError) in try writer.finish() }
    }
    func abandon() { writer.abandon() }
}
