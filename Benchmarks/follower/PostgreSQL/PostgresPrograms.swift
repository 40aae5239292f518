import Foundation
import HoldfastTestSupport

/// PostgreSQL 18's programs, in the directory that `HOLDFAST_BENCH_PG18` names. PostgreSQL refuses root: then they run as
/// the user nobody.
struct PostgresPrograms {
    private static let user = "nobody"
    private let directory: String
    /// What stands before a program and its arguments. It becomes the program, so that its process id is the server's.
    private let prefix: [String]
    private(set) var version = ""

    /// nil: the environment names none.
    init?() throws {
        guard let directory = ProcessInfo.processInfo.environment["HOLDFAST_BENCH_PG18"],
            FileManager.default.isExecutableFile(atPath: directory + "/postgres")
        else { return nil }
        self.directory = directory
        if geteuid() == 0 {
            guard let setpriv = BuiltBinary.tool("setpriv"), let entry = getpwnam(Self.user) else {
                throw NeverHappened(what: "PostgreSQL runs as \(Self.user)", errors: "no setpriv, or no such user")
            }
            let (uid, gid) = (entry.pointee.pw_uid, entry.pointee.pw_gid)
            prefix = [setpriv, "--reuid=\(uid)", "--regid=\(gid)", "--clear-groups"]
        } else {
            prefix = []
        }
        version = try run("postgres", ["--version"]).trimmed
        guard version.contains(" 18") else { throw NeverHappened(what: "it is PostgreSQL 18", errors: version) }
    }

    func has(_ program: String) -> Bool { FileManager.default.isExecutableFile(atPath: "\(directory)/\(program)") }

    /// Starts a program.
    func launch(_ program: String, _ arguments: [String]) throws -> RunningProcess {
        try RunningProcess("/usr/bin/env", ["-C", "/"] + prefix + ["\(directory)/\(program)"] + arguments)
    }

    /// Runs a program to its end; it must succeed.
    @discardableResult
    func run(_ program: String, _ arguments: [String]) throws -> String {
        let process = try launch(program, arguments)
        let status = process.wait()
        guard status == 0 else {
            throw NeverHappened(what: "\(program) ends with 0", errors: "\(status): \(process.errors)")
        }
        return process.output
    }

    /// The shell's words for a client program, which runs as this process's user.
    func client(_ program: String, _ words: String) -> String { "\(directory)/\(program) \(words)" }

    /// Makes a directory that the servers may write.
    func makeDirectory(_ path: String) throws {
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        try give(path)
    }

    func give(_ path: String) throws {
        guard chmod(path, 0o755) == 0 else { throw NeverHappened(what: "chmod \(path)", errors: "errno \(errno)") }
        guard geteuid() == 0, let entry = getpwnam(Self.user) else { return }
        guard chown(path, entry.pointee.pw_uid, entry.pointee.pw_gid) == 0 else {
            throw NeverHappened(what: "chown \(path)", errors: "errno \(errno)")
        }
    }
}
