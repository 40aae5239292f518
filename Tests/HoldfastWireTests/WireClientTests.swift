import Foundation
import Glibc
import HoldfastCore
import HoldfastTestSupport
import Synchronization
import Testing

@testable import HoldfastWire

extension ScriptedServer {
    fileprivate var address: WireAddress { .unix(path: path) }
}

/// Reads something, then writes `text`.
private func reply(_ client: Int32, _ text: String) { ScriptedServer.reply(client, text) }

@Suite("A client tells what went wrong, and never waits for ever")
struct WireClientTests {
    private func client(_ server: ScriptedServer, seconds: Double? = 5) throws -> WireClient {
        var options = WireClient.Options()
        options.version = .resp2
        options.replySeconds = seconds
        return try WireClient(to: server.address, options: options)
    }

    private func failure(_ body: () throws -> Void) -> WireError? {
        do {
            try body()
            return nil
        } catch { return error as? WireError }
    }

    @Test("a reply, an error reply, and a push in between")
    func replies() throws {
        let server = try ScriptedServer { client in
            reply(client, ">1\r\n+noise\r\n+PONG\r\n")
            reply(client, "-NOPERM not you\r\n")
            reply(client, "")
        }
        let client = try client(server)
        #expect(try client.call("PING") == .simple("PONG"))
        let error = failure { try client.call("BACKUP", "START", "secret-ish") }
        #expect(error == .refused(command: "BACKUP START", error: "NOPERM not you"))
        #expect(error?.diagnosis.status == .permission)
        #expect(client.isOpen, "a refusal leaves the connection usable")
    }

    @Test("silence ends at the deadline, and the outcome is called unknown")
    func silence() throws {
        let server = try ScriptedServer { client in
            var byte: UInt8 = 0
            while read(client, &byte, 1) > 0 {}
        }
        let client = try client(server, seconds: 0.05)
        let error = failure { try client.call("SET", "a", "b") }
        guard case .timedOut = error else { return #expect(Bool(false), "\(String(describing: error))") }
        #expect(error?.diagnosis.status == .unavailable)
        #expect(!client.isOpen)
        #expect(failure { try client.call("PING") } == .disconnected(server.address, 0))
    }

    @Test("a server whose machine is gone is noticed, however long it may take to answer: the system asks for it")
    func keepalive() throws {
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(listener) }
        var name = sockaddr_in()
        name.sin_family = sa_family_t(AF_INET)
        name.sin_addr.s_addr = in_addr_t(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isBound = withUnsafeMutablePointer(to: &name) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(listener, $0, length) == 0 && listen(listener, 8) == 0 && getsockname(listener, $0, &length) == 0
            }
        }
        try #require(isBound)
        let port = UInt16(bigEndian: name.sin_port)
        var options = WireClient.Options()
        options.version = .resp2
        let client = try WireClient(to: WireServer(.tcp(host: "127.0.0.1", port: port)), options: options)
        // Of each connection: number, own address, the peer's, state, queues, and the timer that runs: 02 is the keepalive's.
        let peer = "0100007F:" + hexadecimal(UInt64(port), digits: 4)
        let table = try #require(FileHandle(forReadingAtPath: "/proc/net/tcp"))
        let text = String(decoding: table.readDataToEndOfFile(), as: UTF8.self)
        let timers = text.split(separator: "\n").compactMap { line -> Substring? in
            let fields = line.split(separator: " ")
            return fields.count > 5 && fields[2] == peer ? fields[5].prefix(2) : nil
        }
        #expect(timers == ["02"])
        withExtendedLifetime(client) {}
    }

    @Test("a server that closes, one that sends half a reply, and one that speaks something else")
    func broken() throws {
        let closing = try ScriptedServer { reply($0, "") }
        #expect(failure { try client(closing).call("PING") } == .disconnected(closing.address, 0))
        let half = try ScriptedServer { reply($0, "$10\r\nabc") }
        #expect(failure { try client(half).call("PING") } == .disconnected(half.address, 0))
        let web = try ScriptedServer { reply($0, "HTTP/1.1 400 Bad Request\r\n\r\n") }
        guard case .notRESP = failure({ try client(web).call("PING") }) else {
            return #expect(Bool(false), "HTTP is not RESP")
        }
    }

    @Test("nobody listens, or there is no socket")
    func absent() throws {
        let directory = try TemporaryDirectory("holdfast-wire")
        let error = failure { _ = try WireClient(to: .unix(path: directory.path + "/none")) }
        #expect(error == .cannotConnect(.unix(path: directory.path + "/none"), ENOENT))
        #expect(error?.diagnosis.status == .unavailable)
        #expect(failure { _ = try WireClient(to: .tcp(host: "127.0.0.1", port: 1)) }?.diagnosis.status == .unavailable)
    }

    @Test("a long pipeline whose replies fill the sockets does not block both sides")
    func pipeline() throws {
        // Each byte read is answered at once with as many, on a blocking socket.
        let server = try ScriptedServer { client in
            var buffer = [UInt8](repeating: 0, count: 4096)
            while true {
                let count = read(client, &buffer, buffer.count)
                guard count > 0 else { return }
                var sent = 0
                while sent < count {
                    let step = buffer.withUnsafeBytes {
                        send(client, $0.baseAddress! + sent, count - sent, Int32(MSG_NOSIGNAL))
                    }
                    guard step > 0 else { return }
                    sent += step
                }
            }
        }
        let client = try client(server, seconds: 30)
        let request = [Array("ECHO".utf8), [UInt8](repeating: 7, count: 100_000)]
        // What is echoed is the request itself, an array of bulk strings.
        let replies = try client.pipeline(Array(repeating: request, count: 60))
        #expect(replies.allSatisfy { $0 == .array(request.map { .bulk($0) }) })
    }

    @Test(
        "addresses",
        arguments: [
            ("127.0.0.1:6420", .tcp(host: "127.0.0.1", port: 6420)), ("[::1]:1", .tcp(host: "::1", port: 1)),
            ("db.example:65535", .tcp(host: "db.example", port: 65535)), ("unix:/a b", .unix(path: "/a b")),
        ] as [(String, WireAddress)])
    func addresses(_ text: String, _ address: WireAddress) throws {
        #expect(try WireAddress(text) == address)
        #expect(address.description == text)
    }

    @Test(
        "S3: what is no address is refused before any I/O",
        arguments: ["", "localhost", ":1", "a:65536", "a:-1", "::1:1", "unix:", "unix:a\u{0}b", "a\u{0}:1", "a:1x"])
    func badAddresses(_ text: String) {
        let error = failure { _ = try WireAddress(text) }
        #expect(error?.diagnosis.status == .usage)
    }

    @Test("S3: a name of 10 MB as an address, and as a server's error, is cut when it is shown")
    func longNames() {
        let long = String(repeating: "x", count: 10 << 20)
        #expect((failure { _ = try WireAddress("unix:" + long) }?.description.utf8.count ?? .max) < 1000)
        #expect(WireError.refused(command: "GET", error: "ERR \u{1B}[31m" + long).description.utf8.count < 2000)
        #expect(!WireError.refused(command: "GET", error: "ERR \u{1B}[31m").description.contains("\u{1B}"))
    }

    @Test("a diagnosis keeps its exit status across the wire")
    func statuses() {
        for status in [
            ExitStatus.dataError, .unavailable, .internalError, .cannotCreate, .inputOutput, .tryAgain, .permission,
            .configuration,
        ] {
            let reply = ErrorCode.reply(Diagnosis("x", at: "y", why: "z\nw", next: "n", status: status))
            #expect(!reply.contains("\n"))
            #expect(WireError.refused(command: "C", error: reply).diagnosis.status == status)
        }
    }
}
