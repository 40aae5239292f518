import CShims
import Glibc
import HoldfastCore

/// Pages straight from a data directory on this host. Leaves no page cache behind: asks for what comes
/// next and drops what was read.
///
/// The descriptors are opened once and only read with `pread` after that: safe from any thread.
package final class FilePageSource: PageSource {
    private static let readAhead: off_t = 8 << 20
    private let descriptors: [Int: Int32]
    private let settled: (@Sendable (PageNumber, UnsafeMutableRawBufferPointer) throws -> Void)?

    /// Opens the page files below `root`, never following a link.
    ///
    /// `settled` fills 8,192 bytes with a page read so that no writer is in the middle of it: the
    /// server's `BACKUP READ`.
    package init(
        root: String, files: [PageFileMember],
        settled: (@Sendable (PageNumber, UnsafeMutableRawBufferPointer) throws -> Void)? = nil
    ) throws(ArchiveError) {
        let directory = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard directory >= 0 else { throw .system(DiskError(operation: "open", path: root, errno: errno)) }
        defer { close(directory) }
        var descriptors: [Int: Int32] = [:]
        for file in files {
            let path = PageNumber.filePath(file.index)
            let fd = hf_open_beneath(directory, path, O_RDONLY, 0)
            guard fd >= 0 else {
                let error = DiskError(operation: "open", path: "\(root)/\(path)", errno: errno)
                for fd in descriptors.values { close(fd) }
                throw .system(error)
            }
            descriptors[file.index] = fd
        }
        self.descriptors = descriptors
        self.settled = settled
    }

    deinit { for fd in descriptors.values { close(fd) } }

    package func read(file: Int, into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws -> Int {
        guard let fd = descriptors[file] else { throw ArchiveError.invalid("page file \(file) was not opened") }
        let isFrame = buffer.count > Page.bytes
        if isFrame {
            posix_fadvise(fd, off_t(offset) + off_t(buffer.count), Self.readAhead, POSIX_FADV_WILLNEED)
        } else {
            // A page that was bad: the next read must come from the device, not from the cache.
            posix_fadvise(fd, off_t(offset), off_t(buffer.count), POSIX_FADV_DONTNEED)
        }
        var done = 0
        while done < buffer.count, let base = buffer.baseAddress {
            let count = pread(fd, base + done, buffer.count - done, off_t(offset) + off_t(done))
            if count < 0 {
                if errno == EINTR { continue }
                throw ArchiveError.system(
                    DiskError(operation: "read", path: PageNumber.filePath(file), errno: errno))
            }
            if count == 0 { break }
            done += count
        }
        if isFrame { posix_fadvise(fd, off_t(offset), off_t(done), POSIX_FADV_DONTNEED) }
        return done
    }

    package func readSettled(_ page: PageNumber, into buffer: UnsafeMutableRawBufferPointer) throws -> Bool {
        guard let settled else { return false }
        try settled(page, buffer)
        return true
    }
}
