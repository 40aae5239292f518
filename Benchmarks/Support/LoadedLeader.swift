import Foundation
import HoldfastTestSupport

/// A leader and its agent with a store of a given size, in a directory of its own; `holdfast` commands find it.
public final class LoadedLeader {
    /// What the values are: the Debian package index over and over, or bytes that do not compress.
    public enum Content: String { case text, random }

    public let root: String
    public let port: Int
    private let directory: TemporaryDirectory
    private let server: RunningProcess
    private let agent: RunningProcess

    /// Loads `megabytes` of records, writes them to the page files, and prints how long it took.
    public init(megabytes: Int, of content: Content) throws {
        directory = try TemporaryDirectory("bench-backup")
        root = directory.path
        port = Int.random(in: 30_000..<40_000)
        try """
        cluster: bench
        data: \(root)/data
        leader: unix:\(root)/socket
        server: {listen: "127.0.0.1:\(port)", socket: \(root)/socket, cache: 256MiB}
        repository: {path: \(root)/repository}
        state: \(root)/state
        """.write(toFile: root + "/holdfast.yaml", atomically: true, encoding: .utf8)
        setenv("HOLDFAST_CONFIG", root + "/holdfast.yaml", 1)
        try shell("\(BuiltBinary.path) init --data \(root)/data")
        let server = try RunningProcess(BuiltBinary.path, ["serve"])
        self.server = server
        try waitUntil("the leader answers", while: server) { try BuiltBinary.run(["status"]).status == 0 }
        agent = try RunningProcess(BuiltBinary.path, ["agent"])

        try Self.generator(megabytes, content).write(toFile: root + "/generate.py", atomically: true, encoding: .utf8)
        let time = try seconds { try shell("python3 \(root)/generate.py | \(BuiltBinary.path) load") }
        try shell("\(BuiltBinary.path) checkpoint && sync")
        let size = try shell("du -sm --apparent-size \(root)/data/pages | cut -f1")
        print(
            "loaded \(size.trimmingCharacters(in: .whitespacesAndNewlines)) MB of pages (\(content)) in "
                + String(format: "%.1f s", time))
        fflush(nil)
    }

    public func stop() {
        agent.stop()
        server.stop()
    }

    /// A Python program that prints the records, one a line, as `load` and PostgreSQL's COPY read them. About 750 bytes a
    /// record: the index's stanzas, or as many random bytes in hex pairs that `load` unescapes.
    public static func generator(_ megabytes: Int, _ content: Content) -> String {
        """
        import os, subprocess, sys
        limit = \(megabytes) * 1000000
        stanzas = subprocess.run(['apt-cache', 'dumpavail'], capture_output=True).stdout.split(b'\\n\\n')
        out, made, copy = sys.stdout.buffer, 0, 0
        while made < limit:
            for n, s in enumerate(stanzas):
                if '\(content)' == 'random':
                    s = os.urandom(750)
                    v = b''.join(b'\\\\x%02X' % c for c in s)
                else:
                    v = s.replace(b'\\\\', b'\\\\\\\\').replace(b'\\t', b'\\\\t').replace(b'\\n', b'\\\\n')
                out.write(b'%03d:%06d\\t' % (copy, n) + v + b'\\n')
                made += len(s) + 24
                if made >= limit: break
            copy += 1
        """
    }
}
