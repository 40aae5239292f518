import HoldfastCore
import HoldfastWire
import Testing

@testable import HoldfastServer

extension ServerTests {
    @Suite("A digest of the whole content, as of one LSN")
    struct DigestTests {
        @Test("E1: DIGEST PIN holds what was there while others write; what differs is told by its tree")
        func pinned() async throws {
            try await ServedEngine.with { served in
                let client = try served.administrator()
                _ = try client.pipeline(["SET a 1", "SET b 2", "SELECT 3", "SET c 3"])
                let now = try client("DIGEST")
                #expect(now["records"] == .integer(3) && now["tree_count"] == .integer(2))
                let pin = try client("DIGEST", "PIN", now["lsn"]?.text ?? "", "0")
                #expect(pin["lsn"]?.text == now["lsn"]?.text && pin["token"]?.text?.count == 16)
                _ = try served.anonymous().pipeline(["SET a other", "DEL b"])
                let held = try client("DIGEST")
                #expect(held["digest"] == now["digest"] && held["lsn"] == now["lsn"])
                let after = try client("DIGEST")
                #expect(after["digest"] != now["digest"] && after["records"] == .integer(2))
                let (first, second) = try (Self.content(now), Self.content(after))
                #expect(ContentDigest.firstDifference(first, second)?.name == "0")
                #expect(ContentDigest.firstDifference(first, first) == nil)
                // The same records in another order of writes, and with others between, are the same content.
                _ = try client.pipeline(["SELECT 0", "SET z 9", "SET b 2", "SET a 1", "DEL z"])
                #expect(try client("DIGEST")["digest"] == now["digest"])
            }
        }

        @Test("DIGEST PIN of what is not logged yet ends with its time; wrong words are told")
        func refused() async throws {
            try await ServedEngine.with { served in
                let client = try served.administrator()
                #expect(
                    try client("DIGEST", "PIN", "7/0", "1").errorText?.hasPrefix("BUSY this node has no state") == true)
                for call in ["DIGEST PIN x 1", "DIGEST PIN 0/0 -1", "DIGEST PIN 0/0", "DIGEST NOW"] {
                    #expect(try client.pipeline([call])[0].errorText?.hasPrefix("ERR ") == true, "\(call)")
                }
                #expect(try client("DIGEST")["records"] == .integer(0))
            }
        }

        @Test("what is to be compared first is refused, in a transaction too, and what says how the node is is not")
        func gate() async throws {
            try await ServedEngine.with { served in
                let client = try served.anonymous()
                try client("SET", "a", "1")
                served.content.set(.pending(problem: "the leader is away"))
                let replies = try client.pipeline([
                    "GET a", "SET a 2", "SCAN 0", "WATCH a", "MULTI", "GET a", "EXEC", "PING", "INFO", "WAITLSN 0/0 1",
                ]).map { $0.errorText?.split(separator: " ").first }
                let loading = "LOADING"[...], none: Substring? = nil
                #expect(
                    replies == [loading, loading, loading, loading, none, loading, "EXECABORT", none, none, none])
                #expect(
                    try served.administrator()("BACKUP", "START", "l", "FAST").errorText?.hasPrefix("LOADING") == true)
                #expect(try served.administrator()("PROMOTE").errorText?.hasPrefix("LOADING") == true)
                let pin = try served.administrator()("DIGEST", "PIN", "0/0", "1")
                #expect(pin.errorText?.hasPrefix("LOADING") == true, "another would be found equal to who knows what")
                #expect(try served.administrator()("DIGEST")["records"] == .integer(1))
                let status = try served.administrator()("STATUS")
                #expect(status["verified"]?.text == "pending")
                served.content.set(.equal(lsn: .zero, records: 1, digest: "d"))
                #expect(try client("GET", "a") == .text("1"))
            }
        }

        private static func content(_ reply: WireValue) throws -> ContentDigest {
            let trees = try #require(reply["trees"]?.elements).map {
                ContentDigest.Tree(
                    name: $0["name"]?.text ?? "", records: UInt64(clamping: $0["records"]?.integer ?? 0),
                    digest: $0["digest"]?.text ?? "")
            }
            return ContentDigest(records: 0, digest: "", trees: trees)
        }
    }
}
