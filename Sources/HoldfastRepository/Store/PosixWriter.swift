import CShims
import Glibc
import HoldfastCore

/// Writes one object of a `PosixStore` under a temporary name, with write-back started as it goes and no page
/// cache left behind. By `ObjectWriter`'s contract one thread at a time uses it, and whoever hands it on orders that.
final class PosixWriter: ObjectWriter, @unchecked Sendable {
    let path: ObjectPath
    private(set) var bytes: UInt64 = 0

    private let store: PosixStore
    private let temporary: String
    /// -1 once finished or abandoned.
    private var directory: Int32
    private var file: Int32
    private var writtenBack: UInt64 = 0

    private static let writeBackBytes: UInt64 = 8 << 20

    init(_ store: PosixStore, _ path: ObjectPath) throws(StoreError) {
        self.store = store
        self.path = path
        guard let parent = path.parent else { throw StoreError("create", store.absolute(path.text), .link) }
        temporary = PosixStore.temporaryPrefix + String(path.name.prefix(150)) + "-" + store.randomSuffix()
        let directory = try store.openDirectoryMaking(parent)
        let file = openat(directory, temporary, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard file >= 0 else {
            let code = errno
            Glibc.close(directory)
            throw StoreError("create", store.absolute(path.text), errno: code)
        }
        self.directory = directory
        self.file = file
    }

    deinit { abandon() }

    func write(_ buffer: UnsafeRawBufferPointer) throws(StoreError) {
        precondition(file >= 0, "the object is finished")
        var done = 0
        while done < buffer.count {
            let n = pwrite(file, buffer.baseAddress! + done, buffer.count - done, off_t(bytes))
            if n < 0 {
                if errno == EINTR { continue }
                throw StoreError("write", store.absolute(path.text), errno: errno)
            }
            done += n
            bytes += UInt64(n)
        }
        if bytes - writtenBack >= Self.writeBackBytes {
            hf_start_writeback(file, Int64(writtenBack), Int64(bytes - writtenBack))
            // What was handed over a while ago is clean by now and can leave the cache.
            if writtenBack >= 8 * Self.writeBackBytes {
                _ = posix_fadvise(file, 0, off_t(writtenBack - 7 * Self.writeBackBytes), POSIX_FADV_DONTNEED)
            }
            writtenBack = bytes
        }
    }

    func finish() throws(StoreError) -> Creation {
        precondition(file >= 0, "the object is finished")
        let name = path.name
        guard fchmod(file, 0o600) == 0, retryingInterrupts({ fsync(file) }) == 0 else {
            throw failure("sync")
        }
        if bytes > Self.writeBackBytes { _ = posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED) }
        var taken = false
        if hf_rename_noreplace(directory, temporary, directory, name) != 0 {
            switch errno {
            case EEXIST: taken = true
            case EINVAL, ENOSYS, EOPNOTSUPP:
                // A file system without RENAME_NOREPLACE: a second name is as exclusive.
                if linkat(directory, temporary, directory, name, 0) != 0 {
                    guard errno == EEXIST else { throw failure("create") }
                    taken = true
                }
                unlinkat(directory, temporary, 0)
            default: throw failure("create")
            }
        }
        if taken { unlinkat(directory, temporary, 0) }
        // Also for a name that was taken: whoever made it may have crashed before this sync.
        guard retryingInterrupts({ fsync(directory) }) == 0 else { throw failure("sync the directory of") }
        close()
        return taken ? .different : .created
    }

    func abandon() {
        guard file >= 0 else { return }
        unlinkat(directory, temporary, 0)
        close()
    }

    private func close() {
        Glibc.close(file)
        Glibc.close(directory)
        file = -1
        directory = -1
    }

    private func failure(_ operation: String) -> StoreError {
        let error = StoreError(operation, store.absolute(path.text), errno: errno)
        abandon()
        return error
    }
}

/// An object of a `PosixStore` that is open for reading. `fd` changes only in `close`, which its one owner calls
/// after the last read by anyone; that is why it may be shared.
final class PosixObject: StoredObject, @unchecked Sendable {
    let path: ObjectPath
    let bytes: UInt64
    private let place: String
    private var fd: Int32

    /// Takes `fd` over, also when it throws.
    init(fd: Int32, path: ObjectPath, place: String) throws(StoreError) {
        var status = stat()
        let result = fstat(fd, &status)
        guard result == 0, status.st_mode & S_IFMT == S_IFREG else {
            let code = errno
            Glibc.close(fd)
            throw result == 0 ? StoreError("open", place, .link) : StoreError("open", place, errno: code)
        }
        self.fd = fd
        self.path = path
        self.place = place
        bytes = UInt64(status.st_size)
    }

    deinit { close() }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(StoreError) -> Int {
        var done = 0
        while done < buffer.count {
            let n = pread(fd, buffer.baseAddress! + done, buffer.count - done, off_t(offset) + off_t(done))
            if n == 0 { break }
            if n < 0 {
                if errno == EINTR { continue }
                throw StoreError("read", place, errno: errno)
            }
            done += n
        }
        return done
    }

    func close() {
        guard fd >= 0 else { return }
        Glibc.close(fd)
        fd = -1
    }
}
