import Foundation
import HoldfastTestSupport
import Testing

@Suite("holdfast slot")
struct SlotCommandTests {
    @Test("slots are made, shown and dropped; unknown, in use, twice, badly named, no server: a clear error each")
    func slots() throws {
        let fixture = try FollowerFixture(fill: 50)
        let (a, b) = (fixture.a, fixture.b)
        #expect(try a.expect(["slot", "list"]) == "no slots\n")
        #expect(try a.expect(["slot", "create", "b"]).hasPrefix("created: slot b keeps the log from 0/"))
        _ = b.stopLeader()
        let c = try TestCluster(settings: b.settings, initialize: false)
        try c.expect(["restore", "--follow", "unix:\(a.socket)", "--node", "host-c", "--slot", "c"])
        try c.startLeader()
        try waitUntil("c uses its slot", while: c.leader) { try a.expect(["slot", "list"]).contains("in use") }
        let list = try a.expect(["slot", "list"])
        #expect(list.hasPrefix("slot  state   node") && list.contains("\nb     free    -"), "\(list)")
        #expect(list.contains("\nc     in use  host-c"), "\(list)")
        let slots = try #require(try a.json(["slot", "list"])["slots"] as? [[String: Any]])
        #expect(slots.map { $0["name"] as? String } == ["b", "c"])
        #expect(
            slots[0]["active"] as? Bool == false && slots[0]["node"] is NSNull && slots[1]["active"] as? Bool == true)
        func refused(_ node: TestCluster, _ arguments: [String], _ status: Int32, _ words: String) throws {
            let result = try node.run(["slot"] + arguments)
            #expect(result.status == status && result.errors.contains(words), "\(arguments): \(result.errors)")
            #expect(result.output == "")
        }
        try refused(a, ["drop", "c"], 75, "in use")
        try refused(a, ["drop", "nobody"], 65, "no such slot")
        try refused(a, ["create", "b"], 65, "a slot of this name already")
        try refused(a, ["create", "../b"], 64, "not allowed")
        #expect(try a.json(["slot", "drop", "b"])["dropped"] as? Bool == true)
        #expect(try !a.expect(["slot", "list"]).contains("\nb "))
        a.killLeader()
        try refused(a, ["list"], 69, "hint:")
    }
}
