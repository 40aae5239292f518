/// The seam through which Core, WAL and Engine touch the disk. Two implementations: `RealDisk`, and the
/// simulated one of the tests, which loses, tears and reorders whatever was not synced.
///
/// A `Disk` is rooted at one data directory; every path is relative to it, with `/` between parts.
/// What is durable: bytes of a file after `sync()` of that file; the existence, name or absence of an
/// entry after `syncDirectory` of its directory; and nothing else. Use it through generics
/// (`final class Log<D: Disk>`), never as an existential.
public protocol Disk: Sendable {
    associatedtype File: DiskFile

    /// Where this is, for messages: the absolute path of the data directory.
    var root: String { get }

    func open(_ path: String, _ access: FileAccess) throws(DiskError) -> File
    func exists(_ path: String) throws(DiskError) -> Bool
    /// The names in a directory, sorted, without `.` and `..`. `""` is the root.
    func list(_ directory: String) throws(DiskError) -> [String]
    func createDirectory(_ path: String) throws(DiskError)
    /// Replaces `to` if it exists.
    func rename(_ from: String, to: String) throws(DiskError)
    /// Fails with EEXIST if `to` exists.
    func renameExclusively(_ from: String, to: String) throws(DiskError)
    func remove(_ path: String) throws(DiskError)
    func removeDirectory(_ path: String) throws(DiskError)
    /// Makes creations, renames and removals in `directory` durable. `""` is the root.
    func syncDirectory(_ directory: String) throws(DiskError)
    /// Takes the lock of the data directory (a `flock` on the directory itself); it dies with its
    /// holder. Throws `EWOULDBLOCK` when another process holds it.
    func lock() throws(DiskError)
    func unlock()
}

public enum FileAccess: Sendable {
    case read
    /// The file must exist.
    case readWrite
    /// The file must not exist.
    case create
    /// Creates the file, or opens it with its content.
    case createOrOpen
}

/// An open file. One owner closes it; reads and writes at disjoint offsets may run side by side.
public protocol DiskFile: AnyObject, Sendable {
    var path: String { get }
    /// Reads until the buffer is full or the file ends; returns the count. Retries EINTR and short reads.
    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(DiskError) -> Int
    /// Writes all of it, or throws. After an error any part may have been written.
    func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws(DiskError)
    /// Writes the buffers one behind the other as one request where the system can.
    func write(gathering buffers: [UnsafeRawBufferPointer], at offset: UInt64) throws(DiskError)
    /// Writes zeros, not a hole, and mostly brings them to the device, without anybody else's sync having to wait for all of
    /// them. Not durable before `sync`. A failure may be one of `sync`.
    func writeZeros(from offset: UInt64, bytes: UInt64) throws(DiskError)
    /// `fdatasync`. After it has thrown nothing written since the last good sync may be trusted,
    /// and it must not be called again: the caller stops (DESIGN: a failed fsync is fatal).
    func sync() throws(DiskError)
    /// Brings what was written in this range to the device and waits for that, so that a later `sync` has little left to
    /// do and nobody else's sync waits behind it. Makes nothing durable. A failure counts as one of `sync`: the system
    /// tells it once.
    func writeBack(from offset: UInt64, bytes: UInt64) throws(DiskError)
    func size() throws(DiskError) -> UInt64
    /// Cuts or extends (with a hole) to `bytes`.
    func setSize(_ bytes: UInt64) throws(DiskError)
    /// Makes sure that writing in this range cannot fail for want of space; extends the file.
    func allocate(from offset: UInt64, bytes: UInt64) throws(DiskError)
    /// Drops the page cache's clean copies of the file, so that the next read comes from the device.
    func dropCache()
    func close()
}

extension Disk {
    /// Writes `bytes` to a temporary file, syncs it, renames it to `path`, syncs the directory:
    /// after a crash `path` has its old content or all of the new.
    public func replaceAtomically(_ path: String, with bytes: [UInt8]) throws(DiskError) {
        let temporary = path + ".tmp"
        if try exists(temporary) { try remove(temporary) }
        let file = try open(temporary, .create)
        defer { file.close() }
        try file.write(bytes: bytes, at: 0)
        try file.sync()
        try rename(temporary, to: path)
        try syncDirectory(directoryPart(path))
    }

    /// Removes a file that may not be there, or that another process takes away at the same moment.
    package func removeIfThere(_ path: String) throws(DiskError) {
        do throws(DiskError) {
            try remove(path)
        } catch {
            guard error.code == .noEntry else { throw error }
        }
    }

    /// The whole content of a file, which must not be longer than `limit` bytes.
    public func readAll(_ path: String, limit: Int = 16 << 20) throws(DiskError) -> [UInt8] {
        let file = try open(path, .read)
        defer { file.close() }
        let size = try file.size()
        guard size <= UInt64(limit) else {
            throw DiskError(
                operation: "read", path: path, code: .fileTooLarge,
                detail: "\(size) bytes where at most \(limit) are expected")
        }
        return try file.readBytes(count: Int(size), at: 0)
    }
}

extension DiskFile {
    public func write(bytes: [UInt8], at offset: UInt64) throws(DiskError) {
        // A typed throw cannot pass through `withUnsafeBytes` without help.
        let result: Result<Void, DiskError> = bytes.withUnsafeBytes { buffer in
            do throws(DiskError) { return .success(try write(buffer, at: offset)) } catch { return .failure(error) }
        }
        try result.get()
    }

    /// Up to `count` bytes: fewer where the file ends.
    public func readBytes(count: Int, at offset: UInt64) throws(DiskError) -> [UInt8] {
        var failure: DiskError?
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
            do throws(DiskError) {
                initialized = try read(into: UnsafeMutableRawBufferPointer(buffer), at: offset)
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        return bytes
    }
}

/// The directory of a path, `""` for an entry of the root.
package func directoryPart(_ path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "" }
    return String(path[..<slash])
}
