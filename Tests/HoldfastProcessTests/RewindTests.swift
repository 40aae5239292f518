import Foundation
import HoldfastCore
import HoldfastTestSupport
import Testing

/// A former leader comes back as a follower by the pages that it changed since the fork, and what is thrown away is told.
@Suite struct RewindTests {
    struct Case: CustomTestStringConvertible {
        var seed: UInt64
        var shape = Divergence.Shape()
        var source = "leader"
        var testDescription: String {
            "seed \(seed), \(shape.bytes) bytes, \(shape.checkpoints ? "checkpoints behind the fork, " : "")\(source)"
        }
    }

    static let cases = [
        Case(seed: 1), Case(seed: 2, shape: .init(checkpoints: true)),
        Case(seed: 3, shape: .init(bytes: 24_000_000)),
        Case(seed: 4, shape: .init(checkpoints: true), source: "repository"),
        Case(seed: 5, source: "repository"),
    ]

    @Test(
        "E4: a leader whose log went past the fork is refused until rewound, then follows, and what it lost is listed",
        arguments: cases)
    func rewinds(_ given: Case) throws {
        let nodes = try Divergence(seed: given.seed, given.shape)
        let refused = try nodes.a.run(["serve"])
        #expect(refused.status == 65, "\(refused.errors)")
        var command = nodes.rewind
        if given.source == "repository" { command[2] = "repository" }
        let report = try nodes.a.json(command)
        let lost = try #require(nodes.lost)
        #expect(report["transactions"] as? Int == lost.count)
        #expect(report["diverged"] as? Bool == true)
        let saved = try #require(report["saved"] as? String)
        #expect(saved.hasPrefix(nodes.a.data + ".rewound-00000001-"))
        #expect(try nodes.listed(saved) == Array(lost))
        let pages = try #require(report["pages"] as? Int)
        #expect(pages > 0)
        let fork = try #require((report["fork_lsn"] as? String).flatMap { LSN($0) })
        let consistent = try #require((report["consistent_lsn"] as? String).flatMap { LSN($0) })
        // Pages of the leader are newer than the fork; those of a backup from before it are not.
        #expect(given.source == "leader" ? consistent > fork : consistent >= fork)
        #expect(try nodes.segments(behind: fork) == [])
        try nodes.follows()
    }

    @Test(
        "E4: a node that was rewound from a backup streams on inside the fork's segment, which the archive does not have yet"
    )
    func streamsInsideSegment() throws {
        let nodes = try Divergence(seed: 41, .init(newAgent: false))
        try nodes.configureFollow()
        let report = try nodes.a.json(["rewind", "--from", "repository", "--node", "a"])
        #expect(report["consistent_lsn"] as? String == report["fork_lsn"] as? String)
        try nodes.follows()
    }

    @Test("E4: a rewind that is killed anywhere is finished by repeating it, and nothing else opens the directory")
    func survivesKills() throws {
        let nodes = try Divergence(seed: 11, .init(bytes: 4_000_000, checkpoints: true))
        let lost = try #require(nodes.lost)
        let whole = try microseconds { try nodes.a.expect(nodes.rewind) }
        var random = SeededGenerator(seed: 12)
        var interrupted = 0
        func control() throws -> Data { try Data(contentsOf: URL(filePath: nodes.a.data + "/control")) }
        for round in 0..<12 {
            try nodes.reset()
            for _ in 0..<(round % 3 + 1) {
                let before = try control()
                let process = try nodes.a.launch(nodes.rewind)
                if round.isMultiple(of: 2) {
                    usleep(UInt32(random.next() % whole))
                } else {
                    // As soon as it changes the directory, which the control file says first.
                    while process.isRunning, try control() == before { usleep(100) }
                }
                process.kill()
            }
            let control = try nodes.a.json(["control"])
            if "\(control["state"] ?? "")".contains("restor") {
                interrupted += 1
                let refused = try nodes.a.run(["serve"])
                #expect(refused.status == 65)
                #expect(refused.errors.contains("holdfast rewind"), "\(refused.errors)")
            }
            let report = try nodes.a.json(nodes.rewind)
            if let saved = report["saved"] as? String {
                #expect(report["transactions"] as? Int == lost.count)
                #expect(try nodes.listed(saved) == Array(lost))
            }
            try nodes.follows()
        }
        #expect(interrupted > 0, "no run of \(whole) us was killed while the directory was not whole")
    }

    @Test("E4: a former leader that lost nothing only becomes a follower")
    func nothingDiverged() throws {
        let nodes = try Divergence(seed: 21, .init(lostWrites: false))
        let slots = nodes.a.data + "/slots"
        #expect(try !FileManager.default.contentsOfDirectory(atPath: slots).isEmpty)
        let report = try nodes.a.json(nodes.rewind)
        #expect(report["diverged"] as? Bool == false || report["transactions"] as? Int == 0)
        #expect(try FileManager.default.contentsOfDirectory(atPath: slots).isEmpty, "its life as a leader is over")
        try nodes.follows()
        // And again: it is one already.
        _ = nodes.a.stopLeader()
        #expect(try nodes.a.json(nodes.rewind)["diverged"] as? Bool == false)
        try nodes.follows()
    }

    @Test("E4: a rewind that cannot succeed is refused and changes nothing")
    func refusals() throws {
        let nodes = try Divergence(seed: 31, .init(checkpoints: true))
        let other = try TestCluster()
        try nodes.a.refused(
            nodes.rewind + ["--data", other.data], status: 65, saying: ["another cluster", "system identifier"],
            except: ["repository"])
        try nodes.b.refused(
            nodes.rewind + ["--data", nodes.b.data], status: 75, saying: [], except: ["data", "leader"])

        // The log behind the fork is gone, and nowhere else.
        for name in try FileManager.default.contentsOfDirectory(atPath: nodes.a.data + "/wal") where name.count == 24 {
            try FileManager.default.removeItem(atPath: nodes.a.data + "/wal/" + name)
        }
        try nodes.a.refused(nodes.rewind, status: 65, saying: ["log"], except: ["repository"])
    }
}
