import CShims
import Glibc
import HoldfastCore

/// A page file that is being restored: created beneath the target directory without following any
/// link, with its space allocated, written past the page cache where the file system allows it.
///
/// `@unchecked Sendable`: threads write disjoint ranges with `pwrite`; `isDirect` is only read after
/// `init`, and `fcntl` on refusal is idempotent.
final class TargetFile: @unchecked Sendable {
    /// How far behind the writer the page cache is dropped where writes must be buffered.
    private static let dropDistance: off_t = 64 << 20

    let path: String
    private let fd: Int32
    private let isDirect: Bool
    /// The file system guarantees space for the whole file, so that zeros need not be written.
    private let isAllocated: Bool

    /// Creates `path` (0600) of `bytes` below `directory`.
    init(directory: Int32, path: String, bytes: UInt64, replacing: Bool, direct: Bool) throws(ArchiveError) {
        self.path = path
        if replacing, unlinkat(directory, path, 0) != 0, errno != ENOENT { throw Self.failure("remove", path) }
        fd = hf_open_beneath(directory, path, O_RDWR | O_CREAT | O_EXCL, 0o600)
        guard fd >= 0 else { throw Self.failure("create", path) }
        // The flag is set on a descriptor that exists: an open with O_DIRECT that is refused may leave a file.
        isDirect = direct && fcntl(fd, F_SETFL, hf_o_direct()) == 0
        var code: Int32 = 0
        if bytes > 0 {
            repeat { code = posix_fallocate(fd, 0, off_t(bytes)) } while code == EINTR
        }
        guard code == 0 || code == EOPNOTSUPP || code == EINVAL else {
            close(fd)
            throw .system(DiskError(operation: "allocate", path: path, errno: code))
        }
        isAllocated = code == 0
        if ftruncate(fd, off_t(bytes)) != 0 {
            let error = Self.failure("set the size", path)
            close(fd)
            throw error
        }
    }

    deinit { close(fd) }

    /// Writes whole pages, leaving out runs of those marked zero where that is the same.
    func write(
        pages: UnsafeRawBufferPointer, at offset: UInt64, isZero: (Int) -> Bool
    ) throws(ArchiveError) {
        let count = pages.count / Page.bytes
        var first = 0
        while first < count {
            if isAllocated, isZero(first) {
                first += 1
                continue
            }
            var end = first + 1
            while end < count, !(isAllocated && isZero(end)) { end += 1 }
            try write(
                UnsafeRawBufferPointer(rebasing: pages[first * Page.bytes..<end * Page.bytes]),
                at: off_t(offset) + off_t(first * Page.bytes))
            first = end
        }
        if !isDirect {
            hf_start_writeback(fd, Int64(offset), Int64(pages.count))
            let behind = off_t(offset) - Self.dropDistance
            if behind >= 0 { posix_fadvise(fd, behind, off_t(pages.count), POSIX_FADV_DONTNEED) }
        }
    }

    private func write(_ bytes: UnsafeRawBufferPointer, at offset: off_t) throws(ArchiveError) {
        var done = 0
        while done < bytes.count, let base = bytes.baseAddress {
            let count = pwrite(fd, base + done, bytes.count - done, offset + off_t(done))
            if count > 0 {
                done += count
            } else if count < 0, errno == EINVAL, fcntl(fd, F_GETFL) & hf_o_direct() != 0 {
                // The flag was taken but this file system or device wants another alignment.
                guard fcntl(fd, F_SETFL, 0) == 0 else { throw Self.failure("write", path) }
            } else if count == 0 || errno != EINTR {
                throw Self.failure("write", path)
            }
        }
    }

    /// The file's bytes and size are durable when this returns; its name is when its directory is synced.
    func sync() throws(ArchiveError) {
        guard fsync(fd) == 0 else { throw Self.failure("fsync", path) }
        if !isDirect { posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) }
    }

    static func failure(_ operation: String, _ path: String) -> ArchiveError {
        .system(DiskError(operation: operation, path: path, errno: errno))
    }

    /// Makes directory `path` (0700) below `directory`; one that is there stays, a link in its place is an error.
    static func createDirectory(_ path: String, below directory: Int32) throws(ArchiveError) {
        var made = ""
        for part in path.split(separator: "/") {
            let parent = made.isEmpty ? dup(directory) : hf_open_beneath(directory, made, O_RDONLY | O_DIRECTORY, 0)
            guard parent >= 0 else { throw failure("open directory", made) }
            defer { close(parent) }
            made += made.isEmpty ? String(part) : "/" + part
            if mkdirat(parent, String(part), 0o700) != 0, errno != EEXIST { throw failure("create directory", made) }
            let fd = hf_open_beneath(directory, made, O_RDONLY | O_DIRECTORY, 0)
            guard fd >= 0 else { throw failure("open directory", made) }
            close(fd)
        }
    }

    /// Makes the entries of `path` (`""`: of `directory` itself) durable.
    static func syncDirectory(_ path: String, below directory: Int32) throws(ArchiveError) {
        let fd = path.isEmpty ? dup(directory) : hf_open_beneath(directory, path, O_RDONLY | O_DIRECTORY, 0)
        guard fd >= 0 else { throw failure("open directory", path) }
        defer { close(fd) }
        guard fsync(fd) == 0 else { throw failure("fsync of the directory", path.isEmpty ? "." : path) }
    }
}
