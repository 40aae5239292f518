import Foundation

/// A file system of a few MiB in memory, mounted for a test; root only. Unmounted when it goes.
public final class SmallFileSystem {
    public let path: String
    public static let isPossible = geteuid() == 0 && BuiltBinary.tool("mount") != nil && canMount()

    public init(_ path: String, size: String) throws {
        self.path = path
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        try Self.run("mount", ["-t", "tmpfs", "-o", "size=\(size),mode=0700", "tmpfs", path])
    }

    public func grow(to size: String) throws { try Self.run("mount", ["-o", "remount,size=\(size)", path]) }

    deinit { try? Self.run("umount", ["-l", path]) }

    private static func run(_ name: String, _ arguments: [String]) throws {
        let result = try BuiltBinary.runTool(BuiltBinary.tool(name) ?? name, arguments)
        guard result.status == 0 else { throw NeverHappened(what: "\(name) works", errors: result.errors) }
    }

    /// A container may forbid what root otherwise may.
    private static func canMount() -> Bool {
        guard let directory = try? TemporaryDirectory("holdfast-mount") else { return false }
        return (try? SmallFileSystem(directory.path + "/m", size: "1m")) != nil
    }
}
