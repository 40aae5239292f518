import HoldfastCore

/// What a `SimulatedDisk` holds: for each file the cache's bytes and the medium's, for each directory
/// the entries as they look and as they are stored, with the changes between the two in order.
extension SimulatedDisk {
    struct Node {
        /// What a reader sees.
        var cache = SparseBytes()
        /// What the medium holds.
        var stable = SparseBytes()
        /// Sectors that were written since the last good sync, with every version they had on the way:
        /// any of them may be what the medium holds after a power loss.
        var dirty: [Int: [[UInt8]]] = [:]
        /// Sectors that a failed sync marked clean: read back as written, on the medium they are not.
        var falselyClean: Set<Int> = []
    }

    /// A change of the name space that is not durable until its directory is synced.
    enum Change {
        case create(String, Int)
        case rename(String, String, Int)
        case remove(String)

        func touches(_ path: String) -> Bool {
            switch self {
            case .create(let p, _), .remove(let p): p == path
            case .rename(let a, let b, _): a == path || b == path
            }
        }

        func belongs(to directory: String) -> Bool {
            switch self {
            case .create(let p, _), .remove(let p): directoryPart(p) == directory
            // A rename is one transaction of the file system's journal: synced with either directory.
            case .rename(let a, let b, _): directoryPart(a) == directory || directoryPart(b) == directory
            }
        }
    }

    /// A closure in a box: one that goes in and out of generic storage gets a layer of thunks each time.
    final class Hook: Sendable {
        let run: @Sendable (Call) -> Void
        init(_ run: @escaping @Sendable (Call) -> Void) { self.run = run }
    }

    struct State {
        var nodes: [Int: Node] = [:]
        var nextNode = 0
        /// Path to node as it looks; -1 is a directory.
        var cached: [String: Int] = [:]
        var stable: [String: Int] = [:]
        var pending: [Change] = []
        var calls = 0
        var powerFailsAt: Int?
        var powerLost = false
        var halfDone = false
        var fault: (@Sendable (Call) -> Fault?)?
        var meanwhile: Hook?
        var isMeanwhile = false
        var capacity: Int?
        var locked = false
        /// Bytes that the medium writes as one; a divisor of `SparseBytes.chunk`.
        var sector = 512
        var observer: Hook?
        /// Set while a write is under way that goes to another place than it should.
        var misdirectedTo: Int?
        var random: SeededGenerator

        init(random: SeededGenerator) { self.random = random }

        func copied() -> State { self }

        mutating func prepareForRestart() {
            calls = 0
            powerFailsAt = nil
            powerLost = false
            halfDone = false
            fault = nil
            meanwhile = nil
            isMeanwhile = false
            observer = nil
            misdirectedTo = nil
            locked = false
        }

        mutating func begin(_ kind: Call.Kind, _ path: String) throws(DiskError) {
            calls += 1
            halfDone = false
            if powerLost { throw PowerLoss.error(path) }
            if calls == powerFailsAt {
                powerLost = true
                throw PowerLoss.error(path)
            }
            guard let fault = fault?(Call(number: calls, kind: kind, path: path)) else { return }
            switch fault {
            case .error(let code):
                if kind == .sync, let id = cached[path], id >= 0 { failSync(id) }
                throw DiskError(operation: kind.rawValue, path: path, code: code)
            case .half(let code):
                halfDone = true
                throw DiskError(operation: kind.rawValue, path: path, code: code)
            case .misdirected(let offset):
                misdirectedTo = offset
            }
        }

        func requireDirectory(_ path: String, _ operation: String) throws(DiskError) {
            guard path.isEmpty || cached[path] == -1 else {
                throw DiskError(operation: operation, path: path, code: .noEntry)
            }
        }

        func children(_ directory: String) -> [String] {
            let prefix = directory.isEmpty ? "" : directory + "/"
            return cached.keys.filter { directoryPart($0) == directory }.map { String($0.dropFirst(prefix.count)) }
        }

        func reserve(_ bytes: Int, _ operation: String, _ path: String) throws(DiskError) {
            guard let capacity, bytes > 0 else { return }
            let used = nodes.values.reduce(0) { $0 + $1.cache.count }
            guard used + bytes <= capacity else { throw DiskError(operation: operation, path: path, code: .noSpace) }
        }

        mutating func makeNode() -> Int {
            nodes[nextNode] = Node()
            nextNode += 1
            return nextNode - 1
        }

        // MARK: Names

        mutating func change(_ change: Change) {
            Self.apply(change, to: &cached)
            pending.append(change)
        }

        static func apply(_ change: Change, to names: inout [String: Int]) {
            switch change {
            case .create(let path, let id): names[path] = id
            case .remove(let path): names[path] = nil
            case .rename(let from, let to, let id):
                if id == -1 {
                    for (path, node) in names where path.hasPrefix(from + "/") {
                        names[path] = nil
                        names[to + path.dropFirst(from.count)] = node
                    }
                }
                if names[from] == id { names[from] = nil }
                names[to] = id
            }
        }

        /// A directory sync makes this directory's changes durable, and whatever came before them that they need.
        mutating func settle(_ directory: String) {
            var kept: [Change] = []
            for change in pending {
                if change.belongs(to: directory) { Self.apply(change, to: &stable) } else { kept.append(change) }
            }
            pending = kept
        }

        // MARK: Bytes

        private func sectorBytes(_ bytes: SparseBytes, _ index: Int) -> [UInt8] {
            let from = index * sector
            return from < bytes.count ? bytes.bytes(from..<from + sector) : []
        }

        mutating func write(_ bytes: UnsafeRawBufferPointer, node: Int, at offset: Int) {
            guard !bytes.isEmpty else { return }
            let end = offset + bytes.count
            nodes[node]!.cache.write(bytes, at: offset)
            let perChunk = SparseBytes.chunk / sector
            let last = (end - 1) / sector
            var next = offset / sector
            while next <= last {
                // Zeros over what is zero on the medium too cannot be lost or torn.
                let chunk = next / perChunk
                if !nodes[node]!.cache.holdsChunk(chunk), !nodes[node]!.stable.holdsChunk(chunk) {
                    next = (chunk + 1) * perChunk
                    continue
                }
                let index = next
                next += 1
                let version = sectorBytes(nodes[node]!.cache, index)
                nodes[node]!.dirty[index, default: []].append(version)
                nodes[node]!.falselyClean.remove(index)
            }
        }

        mutating func resize(_ node: Int, to size: Int) {
            if size < nodes[node]!.cache.count {
                // What was cut reads as zeros if the file grows again, but only a sync makes it so on the medium.
                let first = size / sector
                let last = (nodes[node]!.stable.count + sector - 1) / sector
                let perChunk = SparseBytes.chunk / sector
                for index in nodes[node]!.dirty.keys where index > first { nodes[node]!.dirty[index] = nil }
                for index in first..<Swift.max(first, last) where nodes[node]!.stable.holdsChunk(index / perChunk) {
                    var zeros = [UInt8](repeating: 0, count: sector)
                    if index == first {
                        let kept = nodes[node]!.cache.bytes(index * sector..<size)
                        zeros.replaceSubrange(0..<kept.count, with: kept)
                    }
                    nodes[node]!.dirty[index, default: []].append(zeros)
                }
            }
            nodes[node]!.cache.resize(to: size)
        }

        mutating func sync(_ node: Int) {
            // What an earlier failed sync marked clean is not dirty, so a later sync does not write it.
            let size = nodes[node]!.cache.count
            nodes[node]!.stable.resize(to: size)
            for index in nodes[node]!.dirty.keys {
                let bytes = sectorBytes(nodes[node]!.cache, index)
                if !bytes.isEmpty { nodes[node]!.stable.write(bytes, at: index * sector) }
            }
            nodes[node]!.dirty = [:]
        }

        /// Linux reports the error once and marks the pages clean: some reached the medium, some did not.
        mutating func failSync(_ node: Int) {
            for index in nodes[node]!.dirty.keys.sorted() {
                if Bool.random(using: &random) {
                    store(nodes[node]!.dirty[index]!.last!, sector: index, node: node)
                } else {
                    nodes[node]!.falselyClean.insert(index)
                }
            }
            nodes[node]!.dirty = [:]
        }

        private mutating func store(_ bytes: [UInt8], sector index: Int, node: Int) {
            nodes[node]!.stable.write(bytes, at: index * sector)
        }

        /// Dropped clean pages are read from the medium again: lies of a failed sync come to light.
        mutating func dropCleanPages(_ node: Int) {
            for index in nodes[node]!.falselyClean {
                var old = sectorBytes(nodes[node]!.stable, index)
                let from = index * sector
                let end = Swift.min(from + sector, nodes[node]!.cache.count)
                guard from < end else { continue }
                old.append(contentsOf: repeatElement(0, count: Swift.max(0, end - from - old.count)))
                nodes[node]!.cache.write(Array(old.prefix(end - from)), at: from)
            }
            nodes[node]!.falselyClean = []
        }

        // MARK: Power loss

        /// What a machine finds when the power comes back.
        mutating func survivors(_ generator: SeededGenerator) -> State {
            var after = self
            after.random = generator
            // Names: a journal replays a prefix of the pending changes, or each survives by itself.
            if Bool.random(using: &after.random) {
                let kept = Int.random(in: 0...pending.count, using: &after.random)
                for change in pending.prefix(kept) { Self.apply(change, to: &after.stable) }
            } else {
                for change in pending where Bool.random(using: &after.random) {
                    if case .rename(let from, _, let id) = change, after.stable[from] != id { continue }
                    Self.apply(change, to: &after.stable)
                }
            }
            after.pending = []
            after.cached = after.stable
            // An entry whose directory was lost is lost with it.
            for path in after.cached.keys.sorted() {
                let directory = directoryPart(path)
                if !directory.isEmpty, after.cached[directory] != -1 { after.cached[path] = nil }
            }
            after.stable = after.cached
            // Nobody has a file open any more: one without a name is gone.
            let reachable = Set(after.cached.values)
            for id in after.nodes.keys where !reachable.contains(id) { after.nodes[id] = nil }
            // Bytes: each unsynced sector is as it was, or any version it had since.
            for id in after.nodes.keys.sorted() {
                for index in after.nodes[id]!.dirty.keys.sorted() {
                    let versions = after.nodes[id]!.dirty[index]!
                    let choice = Int.random(in: -1..<versions.count, using: &after.random)
                    // Half of the time the newest: what a kernel that was given a moment would have written.
                    let newest = Bool.random(using: &after.random)
                    if newest {
                        after.store(versions.last!, sector: index, node: id)
                    } else if choice >= 0 {
                        after.store(versions[choice], sector: index, node: id)
                    }
                }
                // A size that was not synced: the old, the new, or where the last surviving sector ends.
                let size = after.nodes[id]!.cache.count
                if after.nodes[id]!.stable.count > size || Bool.random(using: &after.random) {
                    after.nodes[id]!.stable.resize(to: size)
                }
                after.nodes[id]!.cache = after.nodes[id]!.stable
                after.nodes[id]!.dirty = [:]
                after.nodes[id]!.falselyClean = []
            }
            after.prepareForRestart()
            return after
        }
    }
}
