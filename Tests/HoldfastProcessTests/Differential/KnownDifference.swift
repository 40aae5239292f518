/// Where Holdfast answers otherwise than Redis on purpose: the whole list. What is not here must be equal to the byte.
struct KnownDifference: Sendable {
    let name: String
    let reason: String
    /// Requests, words parted by blanks, the last of which shows it on a server that holds the keys `a` to `g`.
    let example: [String]
    /// Whether it explains that two replies to these words (the first in capitals) differ.
    let explains: @Sendable (_ words: [String], _ ours: RawReply, _ theirs: RawReply) -> Bool

    static let all: [KnownDifference] = [
        KnownDifference(
            name: "order of keys",
            reason: "keys are kept in the order of their bytes; Redis shows them in that of its hash table",
            example: ["KEYS *"]
        ) { words, ours, theirs in words[0] == "KEYS" && sameMembers(ours, theirs) },
        KnownDifference(
            name: "order of a scan", reason: "as the order of keys; a step without end is compared as a set",
            example: ["SCAN 0 COUNT 1000000"]
        ) { words, ours, theirs in
            words[0] == "SCAN" && ours.elements.count == 2 && theirs.elements.count == 2
                && ours.elements[0] == theirs.elements[0] && sameMembers(ours.elements[1], theirs.elements[1])
        },
        KnownDifference(
            name: "cursors that were never given",
            reason: "a place that is not known is refused, so that a scan skips nothing; Redis begins anywhere",
            example: ["SCAN -1"]
        ) { words, ours, theirs in
            words[0] == "SCAN" && theirs.text != ours.text
                && (ours.text == "ERR invalid cursor" || ours.text?.contains("is not known any more") == true)
        },
        KnownDifference(
            name: "which random key", reason: "it is any; that it exists is looked at elsewhere", example: []
        ) { words, ours, theirs in words[0] == "RANDOMKEY" && ours.bulk != nil && theirs.bulk != nil },
        KnownDifference(
            name: "long keys", reason: "keys are at most 2 KiB, and writes of longer ones say so",
            example: ["SET " + String(repeating: "k", count: 2049) + " x"]
        ) { words, ours, _ in
            words.dropFirst().contains { $0.utf8.count > 2048 } && ours.text == "ERR the key is longer than 2048 bytes"
        },
        KnownDifference(
            name: "expiry", reason: "records do not expire, and nobody is told that they will",
            example: ["SET a 1 EX 10"]
        ) { words, ours, _ in
            words[0] == "SET" && ours.text?.hasSuffix("is not supported: records do not expire") == true
        },
        KnownDifference(
            name: "commands that are not there", reason: "what Redis has and Holdfast has not says so by name",
            example: ["LPUSH list x"]
        ) { words, ours, _ in ours.text == "ERR \(words[0]) is not supported by Holdfast" && words[0] != "RANGE" },
        KnownDifference(
            name: "what is repeated in an error",
            reason: "error texts show what cannot be printed; Redis repeats whatever bytes it got",
            example: []
        ) { words, ours, theirs in
            words.contains { word in word.unicodeScalars.contains { !(32...126).contains($0.value) || $0 == "\\" } }
                && ["ERR unknown command '", "ERR Syntax error in HELLO option '"].contains { text in
                    ours.text?.hasPrefix(text) == true && theirs.text?.hasPrefix(text) == true
                }
        },
        KnownDifference(
            name: "a command that Redis has not", reason: "RANGE reads in the order of keys", example: ["RANGE a b"]
        ) { words, ours, theirs in
            words[0] == "RANGE" && (ours.isArray || ours.isError)
                && theirs.text?.hasPrefix("ERR unknown command 'RANGE'") == true
        },
        KnownDifference(
            name: "who greets", reason: "HELLO names this server, its version and its connection", example: ["HELLO"]
        ) { words, ours, theirs in
            let (mine, other) = (ours.elements, theirs.elements)
            guard words[0] == "HELLO", ours.bytes == theirs.bytes, mine.count == 14, other.count == 14 else {
                return false
            }
            // Names, then the values of proto, mode, role and modules.
            return [0, 2, 4, 5, 6, 8, 9, 10, 11, 12, 13].allSatisfy { mine[$0] == other[$0] }
        },
        KnownDifference(
            name: "the server in a transaction",
            reason:
                "commands that ask the server as a whole run beside the writer, and cannot be part of its transaction",
            example: ["MULTI", "CLIENT GETNAME"]
        ) { words, ours, theirs in
            asksServer.contains(words[0])
                && ours.text == "ERR Command not allowed inside a transaction" && theirs.text == "QUEUED"
        },
    ]

    /// Commands that may not stand between `MULTI` and `EXEC` here, and in Redis may.
    static let asksServer: Set = ["LASTSAVE", "WAIT", "HELLO", "CLIENT", "AUTH"]
    static let endsTransaction = asksServer.union(["LRANGE", "HGET"])

    private static func sameMembers(_ ours: RawReply, _ theirs: RawReply) -> Bool {
        func sorted(_ reply: RawReply) -> [[UInt8]] {
            reply.elements.map(\.bytes).sorted { $0.lexicographicallyPrecedes($1) }
        }
        return ours.bytes == theirs.bytes && sorted(ours) == sorted(theirs)
    }
}
