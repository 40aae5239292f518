import Foundation

/// A library that, loaded into a real process, makes its system calls fail as those of a broken disk do. Compiled from
/// C once per test run, with the compiler that Swift itself brings.
public enum FaultyCalls {
    /// Which calls fail, with EIO, or are slow.
    public enum Call: String, Sendable {
        /// `fsync` and `fdatasync`.
        case sync
        /// `fsync` and `fdatasync` work, and take three milliseconds longer.
        case slowSync
        /// `write`, `pwrite` and `pwritev`.
        case write
        /// `pread`.
        case read
    }

    /// The environment that loads the library into a process. Nothing fails before `begin`.
    /// - Parameter directory: where `begin` leaves its word; must exist.
    public static func environment(_ directory: String) throws -> [String: String] {
        ["LD_PRELOAD": try library.get(), "HOLDFAST_TEST_FAULTS": directory]
    }

    /// From now on `call` fails for every file whose path contains `part`. Holds for calls that begin afterwards.
    public static func begin(_ call: Call, of part: String, in directory: String) throws {
        try Data(part.utf8).write(to: URL(filePath: directory + "/" + call.rawValue), options: .atomic)
    }

    /// Whether this machine has a compiler for it.
    public static var isPossible: Bool { compiler != nil }

    private static let compiler: String? = {
        let folders = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":").map(String.init)
        for name in ["clang", "cc"] {
            for folder in folders where FileManager.default.isExecutableFile(atPath: folder + "/" + name) {
                return folder + "/" + name
            }
        }
        return nil
    }()

    // The directory lives as long as the test process, which is what uses it.
    private static let directory = Result { try TemporaryDirectory("holdfast-faults") }

    private static let library: Result<String, any Error> = Result {
        let folder = try directory.get().path
        let (text, made) = (folder + "/faults.c", folder + "/faults.so")
        try source.write(toFile: text, atomically: true, encoding: .utf8)
        let result = try BuiltBinary.runTool(
            compiler ?? "/usr/bin/cc", ["-shared", "-fPIC", "-O1", "-o", made, text, "-ldl"])
        guard result.status == 0 else { throw NeverHappened(what: "the faults are compiled", errors: result.errors) }
        return made
    }

    private static let source = #"""
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <errno.h>
        #include <fcntl.h>
        #include <stdio.h>
        #include <stdlib.h>
        #include <string.h>
        #include <sys/syscall.h>
        #include <sys/uio.h>
        #include <unistd.h>

        /* Whether `call` is to fail for this descriptor: the file of that name holds a part of the path. */
        static int fails(const char *call, int fd) {
            const char *directory = getenv("HOLDFAST_TEST_FAULTS");
            if (!directory) return 0;
            char name[4096], part[4096], path[4096], link[64];
            snprintf(name, sizeof name, "%s/%s", directory, call);
            int file = open(name, O_RDONLY | O_CLOEXEC);
            if (file < 0) return 0;
            long length = syscall(SYS_read, file, part, sizeof part - 1);
            close(file);
            if (length < 0) return 0;
            part[length] = 0;
            snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
            ssize_t count = readlink(link, path, sizeof path - 1);
            if (count < 0) return 0;
            path[count] = 0;
            return strstr(path, part) != NULL;
        }

        #define REAL(type, name, ...) ((type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name))
        #define FAILING(type, name, call, parameters, arguments, ...)                 \
            type name parameters {                                                    \
                int before = errno;                                                   \
                if (fails(call, fd)) { errno = EIO; return -1; }                      \
                errno = before;                                                       \
                return REAL(type, #name, __VA_ARGS__) arguments;                      \
            }

        #define SYNCING(name)                                                         \
            int name(int fd) {                                                        \
                int before = errno;                                                   \
                if (fails("sync", fd)) { errno = EIO; return -1; }                    \
                if (fails("slowSync", fd)) usleep(3000);                              \
                errno = before;                                                       \
                return REAL(int, #name, int)(fd);                                     \
            }

        SYNCING(fsync)
        SYNCING(fdatasync)
        FAILING(ssize_t, write, "write", (int fd, const void *b, size_t n), (fd, b, n), int, const void *, size_t)
        FAILING(ssize_t, pwrite, "write", (int fd, const void *b, size_t n, off_t o), (fd, b, n, o),
                int, const void *, size_t, off_t)
        FAILING(ssize_t, pwrite64, "write", (int fd, const void *b, size_t n, off_t o), (fd, b, n, o),
                int, const void *, size_t, off_t)
        FAILING(ssize_t, pwritev, "write", (int fd, const struct iovec *v, int n, off_t o), (fd, v, n, o),
                int, const struct iovec *, int, off_t)
        FAILING(ssize_t, pwritev64, "write", (int fd, const struct iovec *v, int n, off_t o), (fd, v, n, o),
                int, const struct iovec *, int, off_t)
        FAILING(ssize_t, pread, "read", (int fd, void *b, size_t n, off_t o), (fd, b, n, o),
                int, void *, size_t, off_t)
        FAILING(ssize_t, pread64, "read", (int fd, void *b, size_t n, off_t o), (fd, b, n, o),
                int, void *, size_t, off_t)
        """#
}
