import Glibc
import HoldfastCore
import Synchronization

/// A disk in memory that forgets what was not synced.
///
/// Every call has a number. At a chosen number the *power fails*: that call and all later ones throw
/// `PowerLoss.error`, and `restart()` gives the disk that a machine would find afterwards: synced bytes are
/// there; of unsynced writes each sector (512 bytes, or what `setSectors` says) is kept, lost, or torn from its
/// neighbours at random, in any order; creations, renames and removals that no directory sync followed may be lost, each directory's
/// in order or not at all where a journal would order them (`reordersDirectories` drops even that).
///
/// Faults of calls (EIO, ENOSPC, failed fsync) are injected through `fault`.
public final class SimulatedDisk: Disk, Sendable {
    public struct Call: Sendable, CustomStringConvertible {
        public enum Kind: String, Sendable {
            case open, exists, list, createDirectory, rename, remove, removeDirectory, syncDirectory, lock
            case read, write, sync, size, setSize, allocate
        }
        public var number: Int
        public var kind: Kind
        public var path: String
        public var description: String { "call \(number): \(kind.rawValue) \(path)" }
    }

    /// How a call fails, if it does.
    public enum Fault: Sendable {
        case error(DiskError.Code)
        /// The call throws after having done half of its work (a short write).
        case half(DiskError.Code)
        /// A write that goes to this offset of its file instead, and says nothing: a drive that missed its track.
        case misdirected(to: Int)
    }

    public let root = "/simulated"
    private let state: Mutex<State>

    public init(seed: UInt64) { state = Mutex(State(random: SeededGenerator(seed: seed))) }
    private init(_ state: consuming State) { self.state = Mutex(state) }

    // MARK: The experiment

    /// Calls made so far.
    public var calls: Int { state.withLock { $0.calls } }

    /// The power fails at this call (its effect, when it is a write, may or may not be kept).
    public func failPower(atCall number: Int?) { state.withLock { $0.powerFailsAt = number } }

    /// Asked before each call; a fault makes it fail. Called under the disk's lock: it must not use the disk.
    public func injectFaults(_ fault: (@Sendable (Call) -> Fault?)?) { state.withLock { $0.fault = fault } }

    /// Runs before each call, on its thread and without the disk's lock: what somebody else does while that call is
    /// under way. The calls that it makes itself do not run it again.
    public func interleave(_ meanwhile: (@Sendable (Call) -> Void)?) {
        state.withLock { $0.meanwhile = meanwhile.map(Hook.init) }
    }

    /// Called before each call, those of `interleave`d work included, on its thread and without the disk's lock: for
    /// copies of the disk as it is then (`afterKill`, `restart`). It must not use this disk otherwise.
    public func observe(_ observer: (@Sendable (Call) -> Void)?) {
        state.withLock { $0.observer = observer.map(Hook.init) }
    }

    /// What the medium writes as one: 512 or 4,096 bytes. Before anything was written.
    public func setSectors(bytes: Int) {
        state.withLock { state in
            precondition(SparseBytes.chunk % bytes == 0 && state.nodes.isEmpty, "sectors are set on an empty disk")
            state.sector = bytes
        }
    }

    /// Bytes that all files hold together: what `limitCapacity` is compared with.
    public var usedBytes: Int { state.withLock { $0.nodes.values.reduce(0) { $0 + $1.cache.count } } }

    /// Bytes the disk can hold before ENOSPC; `nil` is without bound.
    public func limitCapacity(_ bytes: Int?) { state.withLock { $0.capacity = bytes } }

    /// After a failed sync the cache claims that the pages are clean, as Linux does: the bytes read back as
    /// written, until the power fails and they are gone.
    public var isPowerLost: Bool { state.withLock { $0.powerLost } }

    /// The disk after a power loss (or now, if it has not failed): a new instance over what survived.
    public func restart(seed: UInt64) -> SimulatedDisk {
        state.withLock { SimulatedDisk($0.survivors(SeededGenerator(seed: seed))) }
    }

    /// The disk after `kill -9`: the process is gone, the cache is not. Unsynced bytes stay readable, and
    /// can still be lost by a later power failure.
    public func afterKill(seed: UInt64) -> SimulatedDisk {
        state.withLock { state in
            var copy = state.copied()
            copy.random = SeededGenerator(seed: seed)
            copy.prepareForRestart()
            return SimulatedDisk(copy)
        }
    }

    /// Every file's content as a reader would see it now, for comparing and damaging.
    public func contents() -> [String: [UInt8]] {
        state.withLock { state in
            var all: [String: [UInt8]] = [:]
            for (path, id) in state.cached where id >= 0 {
                all[path] = state.nodes[id]!.cache.bytes(0..<state.nodes[id]!.cache.count)
            }
            return all
        }
    }

    /// Changes bytes behind everybody's back, on the medium and in the cache: bit rot.
    public func damage(_ path: String, _ change: (inout [UInt8]) -> Void) {
        state.withLock { state in
            guard let id = state.cached[path], id >= 0 else { return }
            var bytes = state.nodes[id]!.cache.bytes(0..<state.nodes[id]!.cache.count)
            change(&bytes)
            var damaged = SparseBytes()
            damaged.write(bytes, at: 0)
            state.nodes[id] = Node(cache: damaged, stable: damaged)
        }
    }

    /// Flips bits of one byte behind everybody's back, on the medium and in the cache. Nothing where there is no byte.
    public func rot(_ path: String, at offset: Int, _ bits: UInt8) {
        state.withLock { state in
            guard let id = state.cached[path], id >= 0, offset < state.nodes[id]!.cache.count else { return }
            let byte = state.nodes[id]!.cache.bytes(offset..<offset + 1).first! ^ bits
            state.nodes[id]!.cache.write([byte], at: offset)
            state.nodes[id]!.stable.write([byte], at: offset)
        }
    }

    /// Bytes of a file as a reader would see them now; fewer where it ends, none where there is no file.
    public func peek(_ path: String, _ range: Range<Int>) -> [UInt8] {
        state.withLock { state in
            guard let id = state.cached[path], id >= 0 else { return [] }
            return state.nodes[id]!.cache.bytes(range)
        }
    }

    /// The names in a directory, as a reader would see them now.
    public func names(in directory: String) -> [String] { state.withLock { $0.children(directory).sorted() } }

    /// Removes a file, durably, behind everybody's back.
    public func lose(_ path: String) {
        state.withLock { state in
            state.cached[path] = nil
            state.stable[path] = nil
            state.pending.removeAll { $0.touches(path) }
        }
    }

    // MARK: Disk

    public func open(_ path: String, _ access: FileAccess) throws(DiskError) -> SimulatedFile {
        try act(.open, path) { state throws(DiskError) in
            if let id = state.cached[path] {
                guard id >= 0 else { throw DiskError(operation: "open", path: path, errno: EISDIR) }
                guard access != .create else { throw DiskError(operation: "open", path: path, code: .exists) }
                return SimulatedFile(path: path, node: id, disk: self)
            }
            guard access == .create || access == .createOrOpen else {
                throw DiskError(operation: "open", path: path, code: .noEntry)
            }
            try state.requireDirectory(directoryPart(path), "open")
            let id = state.makeNode()
            state.change(.create(path, id))
            return SimulatedFile(path: path, node: id, disk: self)
        }
    }

    public func exists(_ path: String) throws(DiskError) -> Bool {
        try act(.exists, path) { state throws(DiskError) in path.isEmpty || state.cached[path] != nil }
    }

    public func list(_ directory: String) throws(DiskError) -> [String] {
        try act(.list, directory) { state throws(DiskError) in
            try state.requireDirectory(directory, "list")
            return state.children(directory).sorted()
        }
    }

    public func createDirectory(_ path: String) throws(DiskError) {
        try act(.createDirectory, path) { state throws(DiskError) in
            guard state.cached[path] == nil else {
                throw DiskError(operation: "create directory", path: path, code: .exists)
            }
            try state.requireDirectory(directoryPart(path), "create directory")
            state.change(.create(path, -1))
        }
    }

    public func rename(_ from: String, to: String) throws(DiskError) { try rename(from, to, exclusive: false) }
    public func renameExclusively(_ from: String, to: String) throws(DiskError) {
        try rename(from, to, exclusive: true)
    }

    private func rename(_ from: String, _ to: String, exclusive: Bool) throws(DiskError) {
        try act(.rename, from) { state throws(DiskError) in
            guard let id = state.cached[from] else { throw DiskError(operation: "rename", path: from, code: .noEntry) }
            if exclusive, state.cached[to] != nil { throw DiskError(operation: "rename", path: to, code: .exists) }
            try state.requireDirectory(directoryPart(to), "rename")
            state.change(.rename(from, to, id))
        }
    }

    public func remove(_ path: String) throws(DiskError) {
        try act(.remove, path) { state throws(DiskError) in
            guard let id = state.cached[path], id >= 0 else {
                throw DiskError(operation: "remove", path: path, code: .noEntry)
            }
            state.change(.remove(path))
        }
    }

    public func removeDirectory(_ path: String) throws(DiskError) {
        try act(.removeDirectory, path) { state throws(DiskError) in
            guard state.cached[path] == -1 else {
                throw DiskError(operation: "remove directory", path: path, code: .noEntry)
            }
            guard state.children(path).isEmpty else {
                throw DiskError(operation: "remove directory", path: path, code: .notEmpty)
            }
            state.change(.remove(path))
        }
    }

    public func syncDirectory(_ directory: String) throws(DiskError) {
        try act(.syncDirectory, directory) { state throws(DiskError) in
            try state.requireDirectory(directory, "sync directory")
            state.settle(directory)
        }
    }

    public func lock() throws(DiskError) {
        try act(.lock, "") { state throws(DiskError) in
            guard !state.locked else {
                throw DiskError(
                    operation: "lock", path: "", code: .wouldBlock, detail: "another process is using this directory")
            }
            state.locked = true
        }
    }

    public func unlock() { state.withLock { $0.locked = false } }

    // MARK: Calls

    fileprivate func act<R>(
        _ kind: Call.Kind, _ path: String, _ body: (inout State) throws(DiskError) -> R
    ) throws(DiskError) -> R {
        runMeanwhile(kind, path)
        let result: Result<R, DiskError> = state.withLock { state in
            do throws(DiskError) {
                try state.begin(kind, path)
                return .success(try body(&state))
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }

    private func runMeanwhile(_ kind: Call.Kind, _ path: String) {
        let (meanwhile, observer, number) = state.withLock { state in
            let meanwhile = state.isMeanwhile ? nil : state.meanwhile
            if meanwhile != nil { state.isMeanwhile = true }
            return (meanwhile, state.observer, state.calls + 1)
        }
        if let observer { observer.run(Call(number: number, kind: kind, path: path)) }
        guard let meanwhile else { return }
        meanwhile.run(Call(number: number, kind: kind, path: path))
        state.withLock { $0.isMeanwhile = false }
    }

    /// A write passes here: a power failure or a half fault may keep a part of it.
    fileprivate func write(_ bytes: UnsafeRawBufferPointer, node: Int, path: String, at offset: Int) throws(DiskError) {
        runMeanwhile(.write, path)
        let result: Result<Void, DiskError> = state.withLock { state in
            do throws(DiskError) {
                try state.begin(.write, path)
                let grown = Swift.max(0, offset + bytes.count - state.nodes[node]!.cache.count)
                try state.reserve(grown, "write", path)
                state.write(bytes, node: node, at: state.misdirectedTo ?? offset)
                state.misdirectedTo = nil
                return .success(())
            } catch {
                // The call in which the power fails, or that failed half way: a prefix may have arrived.
                let keepsPart = error.code == PowerLoss.code && state.powerFailsAt == state.calls || state.halfDone
                if keepsPart, !bytes.isEmpty {
                    let count = state.halfDone ? bytes.count / 2 : Int.random(in: 0...bytes.count, using: &state.random)
                    state.write(UnsafeRawBufferPointer(rebasing: bytes[..<count]), node: node, at: offset)
                }
                return .failure(error)
            }
        }
        try result.get()
    }
}

/// What every call throws once the power has failed.
public enum PowerLoss {
    public static let code = DiskError.Code(rawValue: 9999)
    public static func error(_ path: String) -> DiskError {
        DiskError(operation: "power loss", path: path, code: code, detail: "the power has failed")
    }
}

/// A file of a `SimulatedDisk`.
public final class SimulatedFile: DiskFile, Sendable {
    public let path: String
    private let node: Int
    private let disk: SimulatedDisk

    fileprivate init(path: String, node: Int, disk: SimulatedDisk) {
        self.path = path
        self.node = node
        self.disk = disk
    }

    public func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(DiskError) -> Int {
        try disk.act(.read, path) { state throws(DiskError) in
            state.nodes[node]!.cache.read(into: buffer, at: Int(offset))
        }
    }

    public func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws(DiskError) {
        try disk.write(buffer, node: node, path: path, at: Int(offset))
    }

    public func write(gathering buffers: [UnsafeRawBufferPointer], at offset: UInt64) throws(DiskError) {
        var joined: [UInt8] = []
        for buffer in buffers { joined.append(contentsOf: buffer) }
        try write(bytes: joined, at: offset)
    }

    public func sync() throws(DiskError) {
        let node = self.node
        try disk.act(.sync, path) { state throws(DiskError) in state.sync(node) }
    }

    public func writeZeros(from offset: UInt64, bytes: UInt64) throws(DiskError) {
        let zeros = [UInt8](repeating: 0, count: 1 << 20)
        var at: UInt64 = 0
        while at < bytes {
            let count = min(UInt64(zeros.count), bytes - at)
            try write(bytes: Int(count) == zeros.count ? zeros : Array(zeros[..<Int(count)]), at: offset + at)
            at += count
        }
    }

    /// Any part of what was written may reach the medium at any time: so nothing is to be done, but it may fail.
    public func writeBack(from offset: UInt64, bytes: UInt64) throws(DiskError) {
        try disk.act(.sync, path) { _ throws(DiskError) in }
    }

    public func size() throws(DiskError) -> UInt64 {
        let node = self.node
        return try disk.act(.size, path) { state throws(DiskError) in UInt64(state.nodes[node]!.cache.count) }
    }

    public func setSize(_ bytes: UInt64) throws(DiskError) {
        let node = self.node
        let path = self.path
        try disk.act(.setSize, path) { state throws(DiskError) in
            try state.reserve(Swift.max(0, Int(bytes) - state.nodes[node]!.cache.count), "truncate", path)
            state.resize(node, to: Int(bytes))
        }
    }

    public func allocate(from offset: UInt64, bytes: UInt64) throws(DiskError) {
        let node = self.node
        let path = self.path
        try disk.act(.allocate, path) { state throws(DiskError) in
            let end = Int(offset + bytes)
            guard end > state.nodes[node]!.cache.count else { return }
            try state.reserve(end - state.nodes[node]!.cache.count, "allocate", path)
            state.resize(node, to: end)
        }
    }

    public func dropCache() { disk.dropCache(node) }
    public func close() {}
}

extension SimulatedDisk {
    fileprivate func dropCache(_ node: Int) { state.withLock { $0.dropCleanPages(node) } }
}
