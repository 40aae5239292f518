import Foundation
import Glibc

/// The outbox's directory, open and locked: the system calls, each with its durability.
struct OutboxFiles: ~Copyable {
    private let path: String
    private let directory: Int32

    private init(_ path: String) throws(CatalogError) {
        self.path = path
        directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard directory >= 0 else { throw .outbox(operation: "open", path: path, errno: errno) }
    }

    /// Closing the descriptor lets the lock go.
    deinit { close(directory) }

    /// `body` while no other process or thread changes the directory.
    static func locked<R: ~Copyable>(
        _ path: String, _ body: (borrowing OutboxFiles) throws(CatalogError) -> R
    ) throws(CatalogError) -> R {
        let files = try OutboxFiles(path)
        while flock(files.directory, LOCK_EX) != 0 {
            guard errno == EINTR else { throw .outbox(operation: "flock", path: path, errno: errno) }
        }
        return try body(files)
    }

    /// Makes `path` and what is missing above it, durably; the last one closed to others.
    static func makeDirectory(_ path: String) throws(CatalogError) {
        if mkdir(path, 0o700) == 0 { return try syncDirectory(parent(of: path)) }
        let code = errno
        switch code {
        case EEXIST:
            var status = stat()
            guard stat(path, &status) == 0 else { throw .outbox(operation: "stat", path: path, errno: errno) }
            guard status.st_mode & S_IFMT == S_IFDIR else {
                throw .outbox(operation: "mkdir", path: path, errno: ENOTDIR)
            }
        case ENOENT where parent(of: path) != path:
            try makeDirectory(parent(of: path))
            try makeDirectory(path)
        default: throw .outbox(operation: "mkdir", path: path, errno: code)
        }
    }

    private static func parent(of path: String) -> String {
        let trimmed = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
        guard let slash = trimmed.lastIndex(of: "/") else { return "." }
        return slash == trimmed.startIndex ? "/" : String(trimmed[..<slash])
    }

    private static func syncDirectory(_ path: String) throws(CatalogError) {
        let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw .outbox(operation: "open", path: path, errno: errno) }
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 else { throw .outbox(operation: "fsync", path: path, errno: errno) }
    }

    private func failed(_ operation: String, _ name: String) -> CatalogError {
        .outbox(operation: operation, path: "\(path)/\(name)", errno: errno)
    }

    /// Makes the directory's names durable.
    func sync() throws(CatalogError) {
        guard fsync(directory) == 0 else { throw failed("fsync", "") }
    }

    // MARK: listing

    static func isFact(_ name: String) -> Bool { name.hasSuffix(".json") && !name.hasPrefix(".") }

    func names() throws(CatalogError) -> [String] {
        // `fdopendir` takes its descriptor over, and a fresh one begins at the beginning.
        let copy = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard copy >= 0 else { throw failed("open", "") }
        guard let stream = fdopendir(copy) else {
            close(copy)
            throw failed("opendir", "")
        }
        defer { closedir(stream) }
        var found: [String] = []
        while true {
            errno = 0
            guard let entry = readdir(stream) else { break }
            let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != ".", name != ".." { found.append(name) }
        }
        guard errno == 0 else { throw failed("readdir", "") }
        return found
    }

    /// Facts and their bytes. Temporary files go: whoever writes one holds the directory's lock.
    func sweepAndMeasure() throws(CatalogError) -> (facts: Int, bytes: Int) {
        var held = (facts: 0, bytes: 0)
        for name in try names() {
            if name.hasPrefix(".new-") {
                guard unlinkat(directory, name, 0) == 0 else { throw failed("unlink", name) }
            } else if Self.isFact(name) {
                var status = stat()
                guard fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) == 0 else { throw failed("stat", name) }
                held.facts += 1
                held.bytes += Int(status.st_size)
            }
        }
        return held
    }

    func exists(_ name: String) -> Bool { faccessat(directory, name, F_OK, 0) == 0 }

    // MARK: files

    /// Opens `name` and locks it without waiting. `nil` when it is not there or another holds it.
    func openLocked(_ name: String, exclusively: Bool) throws(CatalogError) -> Int32? {
        let descriptor = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        guard descriptor >= 0 else {
            if errno == ENOENT { return nil }
            throw failed("open", name)
        }
        if flock(descriptor, (exclusively ? LOCK_EX : LOCK_SH) | LOCK_NB) == 0 { return descriptor }
        let code = errno
        close(descriptor)
        if code == EWOULDBLOCK { return nil }
        throw .outbox(operation: "flock", path: "\(path)/\(name)", errno: code)
    }

    /// Whether `name` still is the file behind `descriptor`.
    func isNamed(_ name: String, _ descriptor: Int32) -> Bool {
        var (byName, open) = (stat(), stat())
        return fstatat(directory, name, &byName, AT_SYMLINK_NOFOLLOW) == 0 && fstat(descriptor, &open) == 0
            && byName.st_ino == open.st_ino && byName.st_dev == open.st_dev
    }

    /// At most one byte more than a fact may have.
    func read(_ descriptor: Int32, _ name: String) throws(CatalogError) -> Data {
        var bytes = [UInt8](repeating: 0, count: Fact.maximumBytes + 1)
        var count = 0
        while count < bytes.count {
            let got = bytes.withUnsafeMutableBytes {
                pread(descriptor, $0.baseAddress! + count, $0.count - count, off_t(count))
            }
            if got == 0 { break }
            if got < 0, errno == EINTR { continue }
            guard got > 0 else { throw failed("read", name) }
            count += got
        }
        return Data(bytes[..<count])
    }

    /// Makes `name` hold `data`, in place of what was there, durably. Returns its descriptor, locked for sharing, so
    /// that there is no moment at which the name is there and the lock is not.
    func write(_ data: Data, to name: String) throws(CatalogError) -> Int32 {
        let temporary = ".new-\(UUID().uuidString)"
        let descriptor = openat(directory, temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw failed("create", temporary) }
        do throws(CatalogError) {
            guard flock(descriptor, LOCK_SH | LOCK_NB) == 0 else { throw failed("flock", temporary) }
            try fill(descriptor, with: data, temporary)
            guard renameat(directory, temporary, directory, name) == 0 else { throw failed("rename", name) }
            try sync()
        } catch {
            close(descriptor)
            throw error
        }
        return descriptor
    }

    /// Makes `name`, in place, hold `data`, durably. Returns its descriptor, locked for sharing.
    func overwrite(_ name: String, with data: Data) throws(CatalogError) -> Int32 {
        let descriptor = openat(directory, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw failed("create", name) }
        do throws(CatalogError) {
            guard flock(descriptor, LOCK_SH | LOCK_NB) == 0 else { throw failed("flock", name) }
            try fill(descriptor, with: data, name)
            try sync()
        } catch {
            close(descriptor)
            throw error
        }
        return descriptor
    }

    private func fill(_ descriptor: Int32, with data: Data, _ name: String) throws(CatalogError) {
        let bytes = [UInt8](data)
        var count = 0
        while count < bytes.count {
            let put = bytes.withUnsafeBytes {
                pwrite(descriptor, $0.baseAddress! + count, $0.count - count, off_t(count))
            }
            if put < 0, errno == EINTR { continue }
            guard put > 0 else { throw failed("write", name) }
            count += put
        }
        guard fsync(descriptor) == 0 else { throw failed("fsync", name) }
    }

    /// Removes `name`, durably. Gone already is as good.
    func remove(_ name: String) throws(CatalogError) {
        guard unlinkat(directory, name, 0) == 0 || errno == ENOENT else { throw failed("unlink", name) }
        try sync()
    }
}
