import Glibc

/// Files that hold secrets: passwords, their hashes, private keys. One that others may read is refused, since what is in it
/// is not secret any more.
public enum SecretFile {
    /// The whole content of a regular file of at most `limit` bytes.
    ///
    /// Closed to others, and to a group unless root owns the file: as libpq judges a private key.
    public static func read(_ path: String, limit: Int) throws(SecretFileError) -> [UInt8] {
        // O_NONBLOCK: a pipe planted at the path must not hang the program.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw .cannotRead(path, why: String(cString: strerror(errno))) }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw .cannotRead(path, why: String(cString: strerror(errno))) }
        guard status.st_mode & S_IFMT == S_IFREG else { throw .cannotRead(path, why: "it is not a regular file") }
        guard status.st_mode & (status.st_uid == 0 ? 0o027 : 0o077) == 0 else {
            throw .readableByOthers(path, mode: UInt32(status.st_mode & 0o777))
        }
        var bytes: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = Glibc.read(descriptor, &piece, piece.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw .cannotRead(path, why: String(cString: strerror(errno))) }
            if count == 0 { return bytes }
            guard bytes.count + count <= limit else { throw .cannotRead(path, why: "it is longer than \(limit) bytes") }
            bytes += piece[..<count]
        }
    }

    /// The first line of a file, as a password.
    public static func password(_ path: String) throws(SecretFileError) -> String {
        let line = try read(path, limit: 4096).prefix { $0 != 0x0A && $0 != 0x0D }
        guard !line.isEmpty, !line.contains(0), let password = String(validating: line, as: UTF8.self) else {
            throw .cannotRead(path, why: "its first line is no password")
        }
        return password
    }
}

/// Why a file with secrets is not used. Nothing of its content is told.
public enum SecretFileError: DiagnosableError, Equatable {
    case cannotRead(String, why: String)
    case readableByOthers(String, mode: UInt32)

    public var diagnosis: Diagnosis {
        switch self {
        case .cannotRead(let path, let why):
            Diagnosis(
                "cannot read the secret", at: printable(path, limit: 300), why: why,
                next: "name a file that this user may read", status: .configuration)
        case .readableByOthers(let path, let mode):
            Diagnosis(
                "the secret is not safe", at: printable(path, limit: 300),
                why: "its mode \(String(mode, radix: 8)) lets others read it",
                next: "chmod 600 it, and replace what is in it: others may have read it", status: .configuration)
        }
    }
}
