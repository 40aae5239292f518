@testable import HoldfastAgent
import Testing

@Suite("What is printed is aligned, stable and safe on a terminal")
struct OutputTests {
    @Test("a table is aligned, and control characters in it are escaped")
    func table() {
        var table = TextTable([("ID", .left), ("BYTES", .right)])
        table.add(["a", "1"])
        table.add(["b\u{1B}[2J", "1000000"])
        #expect(table.text == "ID            BYTES\na                 1\nb\\u{1b}[2J  1000000\n")
    }

    @Test("JSON keeps its order and escapes what must be")
    func json() {
        let value: JSONValue = ["b": 1, "a": ["x\"\n\u{1B}", nil, true], "c": .object([]), "d": []]
        #expect(value.text() == #"{"b":1,"a":["x\"\n\u001B",null,true],"c":{},"d":[]}"#)
        #expect(
            value.text(indented: true)
                == "{\n  \"b\": 1,\n  \"a\": [\n    \"x\\\"\\n\\u001B\",\n    null,\n    true\n  ],\n  \"c\": {},\n  \"d\": []\n}"
        )
    }

    @Test("figures are read at a glance")
    func quantities() {
        #expect(Quantity.bytes(17) == "17 B")
        #expect(Quantity.bytes(1536 << 10) == "1.5 MiB")
        #expect(
            [0.34, 42, 187, 7500, 97_200].map(Quantity.seconds) == ["0.3 s", "42 s", "3m 07s", "2h 05m", "1d 03h"])
    }
}
