import CShims
import Glibc
import Synchronization

/// The operating system's files below one directory, which is held open so that renaming the
/// directory under a running process changes nothing. No path ever follows a symbolic link.
public struct RealDisk: Disk {
    public let root: String
    private let directory: DirectoryHandle

    /// Opens the data directory `root`, which must exist and be a directory.
    public init(root: String) throws(DiskError) {
        let fd = retryingInterrupts { Glibc.open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
        guard fd >= 0 else { throw DiskError(operation: "open", path: root, errno: errno) }
        self.root = root
        directory = DirectoryHandle(fd)
    }

    public func open(_ path: String, _ access: FileAccess) throws(DiskError) -> RealFile {
        let flags =
            switch access {
            case .read: O_RDONLY
            case .readWrite: O_RDWR
            case .create: O_RDWR | O_CREAT | O_EXCL
            case .createOrOpen: O_RDWR | O_CREAT
            }
        let fd = retryingInterrupts { hf_open_beneath(directory.fd, path, flags, 0o600) }
        guard fd >= 0 else { throw failure("open", path) }
        return RealFile(fd: fd, path: path, root: root)
    }

    public func exists(_ path: String) throws(DiskError) -> Bool {
        var status = stat()
        if fstatat(directory.fd, path, &status, AT_SYMLINK_NOFOLLOW) == 0 { return true }
        if errno == ENOENT { return false }
        throw failure("stat", path)
    }

    public func list(_ path: String) throws(DiskError) -> [String] {
        let fd = try openDirectory(path)
        guard let stream = fdopendir(fd) else {
            let error = failure("list", path)
            close(fd)
            throw error
        }
        defer { closedir(stream) }
        var names: [String] = []
        while true {
            errno = 0
            guard let entry = readdir(stream) else {
                guard errno == 0 else { throw failure("list", path) }
                return names.sorted()
            }
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != "." && name != ".." { names.append(name) }
        }
    }

    public func createDirectory(_ path: String) throws(DiskError) {
        guard mkdirat(directory.fd, path, 0o700) == 0 else { throw failure("create directory", path) }
    }

    public func rename(_ from: String, to: String) throws(DiskError) {
        guard renameat(directory.fd, from, directory.fd, to) == 0 else { throw failure("rename", "\(from) to \(to)") }
    }

    public func renameExclusively(_ from: String, to: String) throws(DiskError) {
        guard hf_rename_noreplace(directory.fd, from, directory.fd, to) == 0 else {
            throw failure("rename", "\(from) to \(to)")
        }
    }

    public func remove(_ path: String) throws(DiskError) {
        guard unlinkat(directory.fd, path, 0) == 0 else { throw failure("remove", path) }
    }

    public func removeDirectory(_ path: String) throws(DiskError) {
        guard unlinkat(directory.fd, path, AT_REMOVEDIR) == 0 else { throw failure("remove directory", path) }
    }

    public func syncDirectory(_ path: String) throws(DiskError) {
        let fd = try openDirectory(path)
        defer { Glibc.close(fd) }
        guard retryingInterrupts({ fsync(fd) }) == 0 else { throw failure("sync directory", path) }
    }

    public func lock() throws(DiskError) {
        // `flock` says yes again to the descriptor that holds it.
        guard !directory.isLocked.exchange(true, ordering: .acquiring) else {
            throw DiskError(
                operation: "lock", path: root, code: .wouldBlock, detail: "this process is using the directory already")
        }
        guard retryingInterrupts({ flock(directory.fd, LOCK_EX | LOCK_NB) }) == 0 else {
            let failure = failure("lock", "")
            directory.isLocked.store(false, ordering: .releasing)
            guard failure.code == .wouldBlock else { throw failure }
            throw DiskError(
                operation: "lock", path: root, code: .wouldBlock, detail: "another process is using this directory")
        }
    }

    public func unlock() {
        flock(directory.fd, LOCK_UN)
        directory.isLocked.store(false, ordering: .releasing)
    }

    private func openDirectory(_ path: String) throws(DiskError) -> Int32 {
        let fd = retryingInterrupts {
            path.isEmpty
                ? openat(directory.fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
                : hf_open_beneath(directory.fd, path, O_RDONLY | O_DIRECTORY, 0)
        }
        guard fd >= 0 else { throw failure("open directory", path) }
        return fd
    }

    private func failure(_ operation: String, _ path: String) -> DiskError {
        let code = errno
        return DiskError(operation: operation, path: path.isEmpty ? root : root + "/" + path, errno: code)
    }
}

/// Owns the descriptor of the data directory.
private final class DirectoryHandle: Sendable {
    let fd: Int32
    let isLocked = Atomic(false)
    init(_ fd: Int32) { self.fd = fd }
    deinit { close(fd) }
}

/// A file of a `RealDisk`. The descriptor is immutable but for `close`, which its one owner calls
/// after the last use by anyone.
public final class RealFile: DiskFile, @unchecked Sendable {
    // `fd` changes only in `close`, which by contract is not called beside any other use.
    private var fd: Int32
    public let path: String
    private let root: String

    fileprivate init(fd: Int32, path: String, root: String) {
        self.fd = fd
        self.path = path
        self.root = root
    }

    deinit { close() }

    public func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(DiskError) -> Int {
        var done = 0
        while done < buffer.count {
            let n = pread(fd, buffer.baseAddress! + done, buffer.count - done, off_t(offset) + off_t(done))
            if n == 0 { break }
            if n < 0 {
                if errno == EINTR { continue }
                throw failure("read")
            }
            done += n
        }
        return done
    }

    public func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws(DiskError) {
        var done = 0
        while done < buffer.count {
            let n = pwrite(fd, buffer.baseAddress! + done, buffer.count - done, off_t(offset) + off_t(done))
            if n < 0 {
                if errno == EINTR { continue }
                throw failure("write")
            }
            done += n
        }
    }

    public func write(gathering buffers: [UnsafeRawBufferPointer], at offset: UInt64) throws(DiskError) {
        // IOV_MAX is 1,024; a short count falls back to plain writes of what is left.
        var at = offset
        var first = 0
        while first < buffers.count {
            let group = buffers[first..<min(first + 1024, buffers.count)]
            let vectors = group.map {
                iovec(iov_base: UnsafeMutableRawPointer(mutating: $0.baseAddress), iov_len: $0.count)
            }
            let total = group.reduce(0) { $0 + $1.count }
            var written = pwritev(fd, vectors, Int32(vectors.count), off_t(at))
            if written < 0 {
                guard errno == EINTR else { throw failure("write") }
                written = 0
            }
            if written < total {
                var skip = written
                var place = at + UInt64(written)
                for buffer in group {
                    if skip >= buffer.count {
                        skip -= buffer.count
                        continue
                    }
                    let rest = UnsafeRawBufferPointer(rebasing: buffer[skip...])
                    try write(rest, at: place)
                    place += UInt64(rest.count)
                    skip = 0
                }
            }
            at += UInt64(total)
            first += group.count
        }
    }

    public func writeZeros(from offset: UInt64, bytes: UInt64) throws(DiskError) {
        // Linux keeps what one call writes in one piece of its page cache, as large as that call, and looks at all of
        // the piece for each small write into it and each sync: pieces of 1 MiB made a durable commit 7 % slower.
        let zeros = UnsafeMutableRawBufferPointer.allocate(byteCount: 16 << 10, alignment: 4096)
        defer { zeros.deallocate() }
        zeros.initializeMemory(as: UInt8.self, repeating: 0)
        let group: UInt64 = 256 << 10
        var at: UInt64 = 0
        while at < bytes {
            let end = min(at + group, bytes), start = at
            while at < end {
                let count = min(zeros.count, Int(end - at))
                try write(UnsafeRawBufferPointer(rebasing: zeros[..<count]), at: offset + at)
                at += UInt64(count)
            }
            try writeBack(from: offset + start, bytes: end - start)
        }
    }

    public func sync() throws(DiskError) {
        // EINTR leaves nothing undone that a second call would hide: the error state is consumed only by a report.
        guard retryingInterrupts({ fdatasync(fd) }) == 0 else { throw failure("fdatasync") }
    }

    public func writeBack(from offset: UInt64, bytes: UInt64) throws(DiskError) {
        guard retryingInterrupts({ hf_write_back(fd, Int64(offset), Int64(bytes)) }) == 0 else { throw failure("sync") }
    }

    public func size() throws(DiskError) -> UInt64 {
        var status = stat()
        guard fstat(fd, &status) == 0 else { throw failure("stat") }
        return UInt64(status.st_size)
    }

    public func setSize(_ bytes: UInt64) throws(DiskError) {
        guard retryingInterrupts({ ftruncate(fd, off_t(bytes)) }) == 0 else { throw failure("truncate") }
    }

    public func allocate(from offset: UInt64, bytes: UInt64) throws(DiskError) {
        // `posix_fallocate` returns the error instead of setting errno, and falls back to writing where it must.
        var code: Int32
        repeat { code = posix_fallocate(fd, off_t(offset), off_t(bytes)) } while code == EINTR
        guard code == 0 else { throw DiskError(operation: "allocate", path: root + "/" + path, errno: code) }
    }

    public func dropCache() { _ = posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) }

    public func close() {
        guard fd >= 0 else { return }
        Glibc.close(fd)
        fd = -1
    }

    private func failure(_ operation: String) -> DiskError {
        let code = errno
        return DiskError(operation: operation, path: root + "/" + path, errno: code)
    }
}

/// Repeats a system call that a signal interrupted.
@inline(__always)
package func retryingInterrupts(_ call: () -> Int32) -> Int32 {
    while true {
        let result = call()
        if result >= 0 || errno != EINTR { return result }
    }
}
