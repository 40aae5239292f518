import Glibc
import HoldfastCore

/// `server.users_file` on the disk.
package struct UsersFile: Sendable {
    package let path: String

    package init(_ path: String) { self.path = path }

    /// Throws `ServerError`, or `SecretFileError` when it is not there, or others may read it.
    package func read() throws -> UserList {
        let bytes = try SecretFile.read(path, limit: UserList.fileBytes)
        // Somebody may be writing it just now, and without its users all of them would be disconnected.
        guard !bytes.isEmpty else {
            throw ServerError.badUsersFile(path, line: 1, why: "it is empty, without even the first line")
        }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw ServerError.badUsersFile(path, line: 1, why: "it is not text")
        }
        do {
            return try UserList(text)
        } catch {
            throw ServerError.badUsersFile(path, line: error.number, why: error.why)
        }
    }

    /// Reads the file, changes the list and puts the new file in its place, so that a server that reads meanwhile sees the
    /// old or the new one, whole. Durable when it returns. A file that is not there, or empty, has no users.
    package func edit<R>(_ body: (inout UserList) throws -> R) throws -> R {
        let lock = try Lock(beside: path)
        defer { withExtendedLifetime(lock) {} }
        var status = stat()
        var users = stat(path, &status) == 0 && status.st_size > 0 ? try read() : UserList()
        let result = try body(&users)
        try replace(with: users.text)
        return result
    }

    private func replace(with text: String) throws(ServerError) {
        let temporary = path + ".new"
        unlink(temporary)
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw .cannotWriteUsers(temporary, errno) }
        // Whatever the umask; and a server that runs as another user still reads it after root has changed it.
        var old = stat()
        var isWritten = fchmod(descriptor, 0o600) == 0
        if stat(path, &old) == 0, geteuid() == 0 {
            isWritten = isWritten && fchown(descriptor, old.st_uid, old.st_gid) == 0
        }
        var rest = Array(text.utf8)[...]
        while isWritten, !rest.isEmpty {
            let count = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            isWritten = count > 0
            rest = rest.dropFirst(max(0, count))
        }
        isWritten = isWritten && fsync(descriptor) == 0
        let code = errno
        close(descriptor)
        guard isWritten, rename(temporary, path) == 0 else {
            let code = isWritten ? errno : code
            unlink(temporary)
            throw .cannotWriteUsers(path, code)
        }
        let directory = open(Self.directory(of: path), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard directory >= 0 else { throw .cannotWriteUsers(path, errno) }
        defer { close(directory) }
        guard fsync(directory) == 0 else { throw .cannotWriteUsers(path, errno) }
    }

    private static func directory(of path: String) -> String {
        path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
    }

    /// Two that edit at once do so one after the other. The lock is the directory's, since the file is replaced.
    private final class Lock {
        private let descriptor: Int32

        init(beside path: String) throws(ServerError) {
            let directory = UsersFile.directory(of: path)
            descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
            guard descriptor >= 0 else { throw .cannotWriteUsers(directory, errno) }
            // Not for ever: somebody else may have a use of their own for a lock on this directory.
            for _ in 0..<100 {
                if flock(descriptor, LOCK_EX | LOCK_NB) == 0 { return }
                guard errno == EWOULDBLOCK || errno == EINTR else { break }
                usleep(100_000)
            }
            throw .cannotWriteUsers(directory, errno)
        }

        deinit { close(descriptor) }
    }
}
