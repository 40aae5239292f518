import Foundation
import HoldfastTestSupport
import Testing

@testable import HoldfastWire

@Suite("What a client says and trusts before it talks")
struct WireServerTests {
    @Test("S4: a password goes to another machine over TLS alone, and nothing prints it")
    func plainPassword() throws {
        // Nobody listens there: what is refused is refused before anything is connected.
        let address = WireAddress.tcp(host: "192.0.2.1", port: 6420)
        let login = WireLogin(user: "alice", password: "canary")
        var options = WireClient.Options()
        options.connectSeconds = 0.2
        #expect(throws: WireError.plainPassword(address)) {
            _ = try WireClient(to: WireServer(address, login: login), options: options)
        }
        var shown = ""
        dump(WireServer(address, login: login), to: &shown)
        #expect(!"\(shown) \(login) \(String(reflecting: login))".contains("canary"))
    }

    @Test("addresses that stay on this machine", arguments: ["127.0.0.1:1", "localhost:1", "[::1]:1", "unix:/s"])
    func loopback(_ text: String) throws { #expect(try WireAddress(text).isLoopback) }

    @Test(
        "addresses that do not",
        arguments: ["127.0.0.1.example.com:1", "10.0.0.1:1", "0.0.0.0:1", "localhost.example:1"])
    func elsewhere(_ text: String) throws { #expect(try !WireAddress(text).isLoopback) }

    @Test("S11: files that TLS cannot use are named, and a key that others can read is refused")
    func files() throws {
        let pair = try TestCertificates().issue("client", names: "DNS:client")
        let address = WireAddress.tcp(host: "127.0.0.1", port: 1)
        func error(_ settings: WireTLSSettings) -> WireError? {
            #expect(throws: WireError.self) { _ = try WireTLS(settings, host: "127.0.0.1", address: address) }
        }
        #expect(error(WireTLSSettings(authorities: "/nowhere"))?.diagnosis.place == "/nowhere")
        #expect(error(WireTLSSettings(certificate: pair.key, key: pair.key))?.diagnosis.place == pair.key)
        #expect(error(WireTLSSettings(certificate: pair.certificate, key: pair.certificate)) != nil)
        chmod(pair.key, 0o644)
        let exposed = error(WireTLSSettings(certificate: pair.certificate, key: pair.key))
        #expect(exposed == .unsafeSecret(.readableByOthers(pair.key, mode: 0o644)))
    }
}
