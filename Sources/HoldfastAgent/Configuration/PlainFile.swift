import Glibc
import HoldfastCore

/// Files outside the data directory, such as the configuration.
enum PlainFile {
    /// The whole content of a regular file of at most `limit` bytes, and its mode.
    static func read(_ path: String, limit: Int) throws(DiskError) -> (bytes: [UInt8], mode: UInt32) {
        // O_NONBLOCK: a pipe planted at the path must not hang the command.
        let fd = Glibc.open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard fd >= 0 else { throw DiskError(operation: "open", path: path, errno: errno) }
        defer { close(fd) }
        var status = stat()
        guard fstat(fd, &status) == 0 else { throw DiskError(operation: "stat", path: path, errno: errno) }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw DiskError(operation: "read", path: path, code: .init(rawValue: EINVAL), detail: "it is not a file")
        }
        var bytes = [UInt8](repeating: 0, count: limit)
        var filled = 0
        while filled < limit {
            let count = bytes.withUnsafeMutableBytes { Glibc.read(fd, $0.baseAddress! + filled, limit - filled) }
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else { throw DiskError(operation: "read", path: path, errno: errno) }
            if count == 0 { break }
            filled += count
        }
        bytes.removeLast(limit - filled)
        return (bytes, UInt32(status.st_mode & 0o7777))
    }
}
