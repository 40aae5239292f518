import Foundation

/// A server on a unix socket that does with each connection, one after the other, what a test says.
public final class ScriptedServer: Sendable {
    public let path: String
    private let directory: TemporaryDirectory
    private let descriptor: Int32

    /// - Parameter answer: gets a connection's descriptor, on a thread of the server; the connection is closed behind it.
    public init(_ answer: @escaping @Sendable (Int32) -> Void) throws {
        directory = try TemporaryDirectory("holdfast-wire")
        let path = directory.path + "/s"
        self.path = path
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        self.descriptor = descriptor
        var name = sockaddr_un()
        name.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &name.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
        let isBound = withUnsafePointer(to: &name) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0
            }
        }
        guard isBound, listen(descriptor, 8) == 0 else {
            throw NeverHappened(what: "a socket listens", errors: String(cString: strerror(errno)))
        }
        Thread.detachNewThread {
            while true {
                let client = accept(descriptor, nil, nil)
                guard client >= 0 else {
                    // Here and not in `deinit`: its number may be another server's before this thread asks again.
                    close(descriptor)
                    return
                }
                answer(client)
                close(client)
            }
        }
    }

    deinit { shutdown(descriptor, Int32(SHUT_RDWR)) }

    /// Reads something, then writes `text`.
    /// - Returns: what it read; empty when the client is gone.
    @discardableResult
    public static func reply(_ client: Int32, _ text: String) -> String {
        var buffer = [UInt8](repeating: 0, count: 65536)
        let count = read(client, &buffer, buffer.count)
        let bytes = Array(text.utf8)
        _ = send(client, bytes, bytes.count, Int32(MSG_NOSIGNAL))
        return String(decoding: buffer.prefix(max(0, count)), as: UTF8.self)
    }
}
