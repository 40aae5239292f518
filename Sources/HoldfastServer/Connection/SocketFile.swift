import Glibc
import HoldfastWire

/// A listening unix socket and its file.
///
/// The file appears under its name only when it has its mode and can be connected to: it is made under another name and
/// renamed. A file that is there already is replaced only if it is a socket on which nobody listens.
enum SocketFile {
    /// The descriptor of a listening socket at `path`.
    static func listen(at path: String, mode: UInt32, backlog: Int32 = 512) throws(ServerError) -> Int32 {
        try checkFree(path)
        let temporary = "\(path).\(getpid())"
        // Whatever a process with our number has left there.
        unlink(temporary)
        guard var name = address(temporary), temporary.utf8.count <= 107 else {
            throw .cannotListen(path, ENAMETOOLONG)
        }
        let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
        let descriptor = socket(AF_UNIX, type, 0)
        guard descriptor >= 0 else { throw .cannotListen(path, errno) }
        let bound = withUnsafePointer(to: &name) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard bound == 0, chmod(temporary, mode) == 0, Glibc.listen(descriptor, backlog) == 0,
            rename(temporary, path) == 0
        else {
            let code = errno
            close(descriptor)
            unlink(temporary)
            throw .cannotListen(path, code)
        }
        return descriptor
    }

    /// Removes the file, if it is still a socket.
    static func remove(_ path: String) {
        var status = stat()
        if lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFSOCK { unlink(path) }
    }

    private static func checkFree(_ path: String) throws(ServerError) {
        var status = stat()
        guard lstat(path, &status) == 0 else {
            if errno == ENOENT { return }
            throw .cannotListen(path, errno)
        }
        guard status.st_mode & S_IFMT == S_IFSOCK else { throw .notASocket(path) }
        guard var name = address(path) else { throw .cannotListen(path, ENAMETOOLONG) }
        let descriptor = socket(
            AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
        guard descriptor >= 0 else { throw .cannotListen(path, errno) }
        defer { close(descriptor) }
        let connected = withUnsafePointer(to: &name) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        // Refused: nobody listens. Anything else means somebody may (EAGAIN: their queue is full).
        guard connected != 0, errno == ECONNREFUSED else { throw .socketInUse(path) }
    }

    private static func address(_ path: String) -> sockaddr_un? {
        var name = sockaddr_un()
        name.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        guard bytes.count < MemoryLayout.size(ofValue: name.sun_path) else { return nil }
        withUnsafeMutableBytes(of: &name.sun_path) { $0.copyBytes(from: bytes) }
        return name
    }
}
