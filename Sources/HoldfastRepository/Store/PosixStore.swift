import CShims
import Glibc
import HoldfastCore
import Synchronization

/// A store in a directory of a file system.
///
/// Objects are written under a temporary name (`.tmp-…`) in their own directory, synced, and renamed with
/// RENAME_NOREPLACE; then the directory is synced. Files are 0600 and directories 0700 whatever the umask, and no
/// symbolic link below the root is ever followed. The root is opened anew for each call, so that a repository that
/// was moved away or unmounted is noticed, and used again when it is back.
package final class PosixStore: ObjectStore {
    package let place: String
    /// Directories whose own entry this process knows to be durable, by root inode so that another file system
    /// mounted in its place starts from nothing. Guards only itself; no call is made while it is held.
    private let durable = Mutex<DurableDirectories>(DurableDirectories())

    private struct DurableDirectories {
        var device: UInt64 = 0
        var inode: UInt64 = 0
        var paths: Set<String> = []
    }

    static let temporaryPrefix = ".tmp-"

    /// A store at the absolute path `root`. Nothing is touched yet.
    package init(root: String) { place = root }

    /// Makes the root (0700) and what leads to it, when it is not there yet.
    package func makeRoot() throws(StoreError) {
        var path = ""
        for part in place.split(separator: "/") {
            let parent = path.isEmpty ? "/" : path
            path += "/" + part
            if mkdir(path, 0o700) == 0 {
                let fd = retryingInterrupts { Glibc.open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
                guard fd >= 0 else { throw StoreError("open", parent, errno: errno) }
                defer { close(fd) }
                guard retryingInterrupts({ fsync(fd) }) == 0 else { throw StoreError("sync", parent, errno: errno) }
            } else if errno != EEXIST {
                let code = errno
                var status = stat()
                if stat(path, &status) != 0 { throw StoreError("make its directory", path, errno: code) }
            }
        }
    }

    package func create(_ path: ObjectPath, _ bytes: [UInt8]) throws(StoreError) -> Creation {
        let writer = try PosixWriter(self, path)
        try writer.write(bytes)
        guard try writer.finish() == .different else { return .created }
        // The directory was synced by `finish`: what is compared here survives a crash.
        let existing = try read(path, limit: Swift.max(bytes.count, 1) + 1, orNilIfLonger: true)
        return existing == bytes ? .equal : .different
    }

    package func put(_ path: ObjectPath) throws(StoreError) -> any ObjectWriter { try PosixWriter(self, path) }

    package func open(_ path: ObjectPath) throws(StoreError) -> any StoredObject {
        let root = try openRoot()
        defer { Glibc.close(root) }
        return try PosixObject(
            fd: try openBeneath(root, path.text, O_RDONLY | O_NONBLOCK), path: path, place: absolute(path.text))
    }

    package func read(_ path: ObjectPath, limit: Int) throws(StoreError) -> [UInt8]? {
        guard let bytes = try read(path, limit: limit, orNilIfLonger: false) else { return nil }
        return bytes
    }

    private func read(_ path: ObjectPath, limit: Int, orNilIfLonger: Bool) throws(StoreError) -> [UInt8]? {
        let object: any StoredObject
        do throws(StoreError) { object = try open(path) } catch {
            if error.reason == .missing { return nil }
            throw error
        }
        defer { object.close() }
        guard object.bytes <= UInt64(limit) else {
            if orNilIfLonger { return nil }
            throw StoreError("read", absolute(path.text), .tooLarge(limit: limit))
        }
        return try object.readBytes(count: Int(object.bytes), at: 0)
    }

    package func list(_ directory: ObjectPath) throws(StoreError) -> [ObjectListing] {
        var listing: [ObjectListing] = []
        try forEachEntry(directory) { name, status in
            guard status.st_mode & S_IFMT == S_IFREG, ObjectPath.isPart(name.utf8) else { return }
            listing.append(
                ObjectListing(path: directory / name, bytes: UInt64(status.st_size), modified: modified(status)))
        }
        return listing.sorted { $0.path < $1.path }
    }

    package func listDirectories(_ directory: ObjectPath?) throws(StoreError) -> [String] {
        var names: [String] = []
        try forEachEntry(directory) { name, status in
            if status.st_mode & S_IFMT == S_IFDIR, ObjectPath.isPart(name.utf8) { names.append(name) }
        }
        return names.sorted()
    }

    package func describe(_ path: ObjectPath) throws(StoreError) -> ObjectListing? {
        let root = try openRoot()
        defer { Glibc.close(root) }
        let fd = hf_open_beneath(root, path.text, O_RDONLY | O_NONBLOCK, 0)
        guard fd >= 0 else {
            if errno == ENOENT { return nil }
            throw StoreError("look at an object", absolute(path.text), errno: errno)
        }
        defer { Glibc.close(fd) }
        var status = stat()
        guard fstat(fd, &status) == 0 else {
            throw StoreError("look at an object", absolute(path.text), errno: errno)
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw StoreError("look at an object", absolute(path.text), .link)
        }
        return ObjectListing(path: path, bytes: UInt64(status.st_size), modified: modified(status))
    }

    package func confirm(_ path: ObjectPath) throws(StoreError) -> ObjectListing? {
        guard let listing = try describe(path) else { return nil }
        // An object was whole and synced before it got its name: only the name is in doubt.
        guard let parent = path.parent else { return listing }
        let fd = try openDirectoryMaking(parent)
        defer { Glibc.close(fd) }
        guard retryingInterrupts({ fsync(fd) }) == 0 else {
            throw StoreError("sync", absolute(parent.text), errno: errno)
        }
        return listing
    }

    package func delete(_ path: ObjectPath) throws(StoreError) {
        let root = try openRoot()
        defer { Glibc.close(root) }
        guard let parent = path.parent else { throw StoreError("remove", absolute(path.text), .link) }
        let fd: Int32
        do throws(StoreError) { fd = try openBeneath(root, parent.text, O_RDONLY | O_DIRECTORY) } catch {
            if error.reason == .missing { return }
            throw error
        }
        defer { Glibc.close(fd) }
        guard unlinkat(fd, path.name, 0) == 0 || errno == ENOENT else {
            throw StoreError("remove", absolute(path.text), errno: errno)
        }
        // Also when it was gone already: an earlier removal may not be durable yet.
        guard retryingInterrupts({ fsync(fd) }) == 0 else {
            throw StoreError("sync", absolute(parent.text), errno: errno)
        }
    }

    package func now() throws(StoreError) -> Timestamp {
        let root = try openRoot()
        defer { Glibc.close(root) }
        let name = Self.temporaryPrefix + "clock-" + randomSuffix()
        let fd = hf_open_beneath(root, name, O_RDWR | O_CREAT | O_EXCL, 0o600)
        guard fd >= 0 else { throw StoreError("read its clock", absolute(name), errno: errno) }
        defer {
            unlinkat(root, name, 0)
            Glibc.close(fd)
        }
        // Setting the time to "now" lets the file system's own clock speak, on NFS the server's.
        guard futimens(fd, nil) == 0 else { throw StoreError("read its clock", absolute(name), errno: errno) }
        var status = stat()
        guard fstat(fd, &status) == 0 else { throw StoreError("read its clock", absolute(name), errno: errno) }
        return modified(status)
    }

    package func sweepTemporaries(in directory: ObjectPath, olderThanSeconds: Int64) throws(StoreError) -> Int {
        let limit = try now().advanced(bySeconds: -olderThanSeconds)
        return try sweepTemporaries(in: directory, before: limit)
    }

    private func sweepTemporaries(in directory: ObjectPath, before limit: Timestamp) throws(StoreError) -> Int {
        var stale: [String] = []
        var below: [String] = []
        try forEachEntry(directory) { name, status in
            if status.st_mode & S_IFMT == S_IFDIR {
                if ObjectPath.isPart(name.utf8) { below.append(name) }
            } else if name.hasPrefix(Self.temporaryPrefix), modified(status) < limit {
                stale.append(name)
            }
        }
        var count = stale.count
        if !stale.isEmpty {
            let root = try openRoot()
            defer { Glibc.close(root) }
            let fd = try openBeneath(root, directory.text, O_RDONLY | O_DIRECTORY)
            defer { Glibc.close(fd) }
            for name in stale where unlinkat(fd, name, 0) != 0 && errno != ENOENT {
                throw StoreError("remove", absolute(directory.text + "/" + name), errno: errno)
            }
        }
        for name in below { count += try sweepTemporaries(in: directory / name, before: limit) }
        return count
    }
}

extension PosixStore {
    func absolute(_ path: String) -> String { place + "/" + path }

    /// The root's descriptor, to be closed by the caller. The root itself may be reached through links:
    /// where it is is the operator's choice.
    func openRoot() throws(StoreError) -> Int32 {
        let fd = retryingInterrupts { Glibc.open(place, O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
        guard fd >= 0 else {
            if errno == ENOENT || errno == ENOTDIR { throw StoreError("be opened", place, .away) }
            throw StoreError("be opened", place, errno: errno)
        }
        return fd
    }

    func openBeneath(_ root: Int32, _ path: String, _ flags: Int32) throws(StoreError) -> Int32 {
        let fd = retryingInterrupts { hf_open_beneath(root, path, flags, 0o600) }
        guard fd >= 0 else { throw StoreError("open", absolute(path), errno: errno) }
        return fd
    }

    /// The descriptor of the directory at `path`, made where it is missing (0700), with every entry on the way
    /// durable: once for each directory and process, also when it existed, since who made it may have crashed
    /// before its sync.
    func openDirectoryMaking(_ path: ObjectPath) throws(StoreError) -> Int32 {
        var at = try openRoot()
        var status = stat()
        guard fstat(at, &status) == 0 else {
            let code = errno
            Glibc.close(at)
            throw StoreError("be opened", place, errno: code)
        }
        let (device, inode) = (UInt64(status.st_dev), UInt64(status.st_ino))
        let known = durable.withLock { state in
            if state.device != device || state.inode != inode {
                state = DurableDirectories(device: device, inode: inode)
            }
            return state.paths
        }
        var name = ""
        for part in path.parts {
            name += name.isEmpty ? part : "/" + part
            let made = mkdirat(at, part, 0o700) == 0
            let code = errno
            if !made && code != EEXIST {
                Glibc.close(at)
                throw StoreError("make a directory", absolute(name), errno: code)
            }
            if made || !known.contains(name) {
                guard retryingInterrupts({ fsync(at) }) == 0 else {
                    let code = errno
                    Glibc.close(at)
                    throw StoreError("sync", absolute(name), errno: code)
                }
                durable.withLock { state in
                    if state.device == device && state.inode == inode { _ = state.paths.insert(name) }
                }
            }
            let next = openat(at, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
            let error = errno
            Glibc.close(at)
            guard next >= 0 else { throw StoreError("open", absolute(name), errno: error) }
            at = next
        }
        return at
    }

    private func forEachEntry(_ directory: ObjectPath?, _ body: (String, stat) -> Void) throws(StoreError) {
        let root = try openRoot()
        defer { Glibc.close(root) }
        let fd: Int32
        if let directory {
            do throws(StoreError) { fd = try openBeneath(root, directory.text, O_RDONLY | O_DIRECTORY) } catch {
                if error.reason == .missing { return }
                throw error
            }
        } else {
            fd = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        }
        let shown = directory.map { absolute($0.text) } ?? place
        guard fd >= 0, let stream = fdopendir(fd) else {
            let code = errno
            if fd >= 0 { Glibc.close(fd) }
            throw StoreError("list", shown, errno: code)
        }
        defer { closedir(stream) }
        while true {
            errno = 0
            guard let entry = readdir(stream) else {
                guard errno == 0 else { throw StoreError("list", shown, errno: errno) }
                return
            }
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name == "." || name == ".." { continue }
            var status = stat()
            guard fstatat(fd, name, &status, AT_SYMLINK_NOFOLLOW) == 0 else {
                // Removed between the two calls, as another's temporary is.
                if errno == ENOENT { continue }
                throw StoreError("list", shown + "/" + name, errno: errno)
            }
            body(name, status)
        }
    }

    func randomSuffix() -> String { hexadecimal(UInt64.random(in: 0...UInt64.max), digits: 16) }
}

private func modified(_ status: stat) -> Timestamp {
    Timestamp(microseconds: Int64(status.st_mtim.tv_sec) * 1_000_000 + Int64(status.st_mtim.tv_nsec) / 1_000)
}
