import Foundation
import HoldfastCore
import HoldfastTestSupport
import Testing

/// `check`, `wal dump`, `control` and `page dump` as an operator types them at night.
@Suite("Tools for a bad night", .serialized)
struct InspectionTests {
    private static let records = (0..<3000).map { "key\(String(format: "%05d", $0))\tvalue\($0)\n" }.joined()

    /// A stopped leader's directory with some records, a restore point and a large value.
    private func stopped() throws -> TestCluster {
        let cluster = try TestCluster()
        try cluster.startLeader()
        try cluster.load(Self.records)
        try cluster.expect(["restorepoint", "here"])
        try cluster.load("large\t\(String(repeating: "x", count: 100_000))\n", tree: 3)
        #expect(cluster.stopLeader() == 0)
        return cluster
    }

    private func patch(_ path: String, at offset: Int, _ bytes: [UInt8]) throws {
        let file = try FileHandle(forUpdating: URL(filePath: path))
        defer { try? file.close() }
        try file.seek(toOffset: UInt64(offset))
        try file.write(contentsOf: bytes)
    }

    private func object(_ text: String) throws -> [String: Any] {
        try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any], "\(text)")
    }

    // MARK: check

    @Test("check of a directory writes nothing, and says what a killed one needs")
    func checkDirectory() throws {
        let cluster = try stopped()
        let sound = try cluster.unchanged("check") { try cluster.json(["check", "--data", cluster.data]) }
        #expect(sound["ok"] as? Bool == true && sound["objects"] as? Int ?? 0 >= 40)
        #expect(LSN(sound["lsn"] as? String ?? "") != nil)
        try cluster.startLeader()
        try cluster.refused(
            ["check", "--data", cluster.data], status: 75, saying: [cluster.data, "another process"],
            except: ["data/wal"])
        cluster.killLeader()
        try cluster.refused(
            ["check", "--data", cluster.data], status: 75, saying: ["not stopped in order", "holdfast serve"])
        try cluster.refused(
            ["check", "--data", cluster.data, "--connect", "unix:/x"], status: 64, saying: ["exclude each other"])
        try cluster.refused(["check", "--connect", "nowhere"], status: 64, saying: ["nowhere"])
        try cluster.refused(
            ["check", "--connect", "unix:\(cluster.root)/none.sock"], status: 69, saying: ["none.sock"])
    }

    @Test("B5: check names damaged, misplaced and zeroed pages of a directory, and of a running server, which goes on")
    func checkDamage() throws {
        let cluster = try stopped()
        let path = cluster.data + "/pages/00000000"
        let saved = try Data(contentsOf: URL(filePath: path))
        let page = 8192
        // Leaves of the tree, in the order in which they were made.
        try patch(path, at: 3 * page + 5000, [saved[3 * page + 5000] ^ 0x40])
        try patch(path, at: 5 * page, Array(saved[6 * page..<7 * page]))
        try patch(path, at: 8 * page, [UInt8](repeating: 0, count: page))
        let expected = [
            "page 3": "checksum", "page 5": "these are the bytes of page 6", "page 8": "all zeros",
        ]
        let offline = try cluster.unchanged("check") { try cluster.run(["check", "--data", cluster.data]) }
        #expect(offline.status == 65)
        for (object, words) in expected {
            #expect(offline.output.contains(object + ": ") && offline.output.contains(words), "\(offline.output)")
        }
        try cluster.startLeader()
        let online = try cluster.run(["check", "--connect", "unix:\(cluster.socket)", "--format", "json"])
        #expect(online.status == 65, "\(online.errors)")
        let problems = try #require(try object(online.output)["problems"] as? [[String: String]])
        for (object, words) in expected {
            #expect(
                problems.contains { $0["object"] == object && $0["problem"]?.contains(words) == true },
                "\(object): \(problems)")
        }
        // It serves what is sound.
        try cluster.load("later\t1\n", tree: 5)
        #expect(try cluster.dump(tree: 5) == "later\t1\n")
        cluster.killLeader()
    }

    @Test("check of a running server, while writes go on, is sound and of a moment of its own; TCP may not ask")
    func checkOnline() throws {
        let cluster = try TestCluster(cache: "4MiB")
        try cluster.startLeader(["--verify-wal"])
        try cluster.fill(3000, bytes: 2000)
        let writer = try cluster.launch(["load", "--tree", "2"], input: Data(Self.manyRecords().utf8))
        var lsns: Set<String> = []
        repeat {
            let result = try cluster.json(["check", "--connect", "unix:\(cluster.socket)"])
            #expect(result["ok"] as? Bool == true, "\(result)")
            lsns.insert(try #require(result["lsn"] as? String))
        } while writer.isRunning
        #expect(writer.wait() == 0, "\(writer.errors)")
        #expect(lsns.count > 1)
        let denied = try cluster.run(["check", "--connect", "127.0.0.1:\(cluster.port)"])
        #expect(denied.status == 77, "\(denied.errors)")
        #expect(cluster.stopLeader() == 0)
        #expect(try cluster.json(["check", "--data", cluster.data])["ok"] as? Bool == true)
    }

    private static func manyRecords() -> String {
        (0..<60_000).map { "w\($0 * 7919 % 60_000)\t\($0)\n" }.joined()
    }

    @Test("B8: serve --verify-wal takes writes of every kind, and blames none of them")
    func verifyWAL() throws {
        let cluster = try TestCluster()
        try cluster.startLeader(["--verify-wal"])
        try cluster.load(Self.records)
        try cluster.load("large\t\(String(repeating: "x", count: 300_000))\n", tree: 1)
        try cluster.expect(["checkpoint"])
        let client = try RawConnection(unix: cluster.socket)
        client.send("FLUSHDB\r\n")
        #expect(try client.line() == "+OK")
        try cluster.load(Self.records)
        let dump = try cluster.dump()
        #expect(cluster.leader?.errors.contains("redo of every commit is verified") == true)
        #expect(cluster.stopLeader() == 0)
        try cluster.startLeader()
        #expect(try cluster.dump() == dump)
        #expect(cluster.stopLeader() == 0)
    }

    // MARK: wal dump

    private func records(_ cluster: TestCluster, _ arguments: [String]) throws -> [[String: Any]] {
        try #require(try cluster.json(["wal", "dump"] + arguments)["records"] as? [[String: Any]])
    }

    @Test("wal dump by kind, page, transaction and range shows the same records of a directory, a file and the archive")
    func walDump() throws {
        let cluster = try TestCluster()
        try cluster.startLeader()
        try cluster.startAgent()
        try cluster.load(Self.records)
        try cluster.archivedPoint("first")
        try cluster.load("large\t\(String(repeating: "x", count: 3 << 20))\n", tree: 3)
        try cluster.archivedPoint("second")
        #expect(cluster.stopAgent() == 0)
        #expect(cluster.stopLeader() == 0)

        let data = ["--data", cluster.data]
        let all = try records(cluster, data)
        #expect(all.count > 10)
        // Those behind the log's end are prepared, or have been used before.
        let last = try #require(all.last.flatMap { LSN("\($0["lsn"]!)") })
        let names = try FileManager.default.contentsOfDirectory(atPath: cluster.data + "/wal")
            .filter { SegmentName($0).map { $0.segment <= SegmentNumber(containing: last) } == true }.sorted()
        var ofFiles: [[String: Any]] = []
        for name in names { ofFiles += try records(cluster, [cluster.data + "/wal/" + name]) }
        #expect(ofFiles.map { "\($0["crc"] ?? "")" } == all.map { "\($0["crc"] ?? "")" })
        let archived = try records(cluster, [])
        #expect(archived.count > 10)
        #expect(archived.map { "\($0["crc"] ?? "")" } == all.prefix(archived.count).map { "\($0["crc"] ?? "")" })
        let one = try records(cluster, [names[0]])
        #expect(one.map { "\($0["lsn"] ?? "")" } == all.prefix(one.count).map { "\($0["lsn"] ?? "")" })

        let points = try records(cluster, data + ["--kind", "restore-point"])
        #expect(points.compactMap { $0["name"] as? String } == ["first", "second"])
        let several = try records(cluster, data + ["--kind", "restorePoint", "--kind", "checkpoint"])
        #expect(several.count > 2 && several.allSatisfy { ["restorePoint", "checkpoint"].contains("\($0["kind"]!)") })

        // A page's records are those whose changes name it.
        func changes(_ record: [String: Any], _ page: Int) -> Bool {
            (record["changes"] as? [[String: Any]] ?? []).contains { $0["page"] as? Int == page }
        }
        let ofPage = try records(cluster, data + ["--page", "1"])
        #expect(!ofPage.isEmpty)
        #expect(
            ofPage.map { "\($0["lsn"] ?? "")" } == all.filter { changes($0, 1) }.map { "\($0["lsn"] ?? "")" })
        #expect(try records(cluster, data + ["--page", "4000000"]).isEmpty)

        // The large value is a commit of several parts: all are shown.
        let large = try #require(
            all.last { $0["commit"] as? Bool == true && $0["begin"] as? Bool == false }, "a commit of several parts")
        let transaction = try #require(large["first_transaction"] as? Int)
        for source in [data, []] {
            let parts = try records(cluster, source + ["--transaction", String(transaction)])
            #expect(parts.count > 2)
            #expect(parts.first?["begin"] as? Bool == true && parts.last?["lsn"] as? String == large["lsn"] as? String)
            #expect(parts.dropFirst().allSatisfy { $0["begin"] as? Bool == false })
        }
        #expect(try records(cluster, data + ["--transaction", "999999"]).isEmpty)

        // A range, from the middle of a record on.
        let from = try #require(LSN("\(all[3]["lsn"]!)")), to = try #require(LSN("\(all[7]["lsn"]!)"))
        let range = try records(cluster, data + ["--from", "\(from)", "--to", "\(to)"])
        #expect(range.map { "\($0["lsn"]!)" } == all[3..<7].map { "\($0["lsn"]!)" })
        let behind = try records(cluster, data + ["--from", "\(from + 8)", "--to", "\(to + 8)"])
        #expect(behind.map { "\($0["lsn"]!)" } == all[4..<8].map { "\($0["lsn"]!)" })

        // One line for each record, and what they amount to.
        let lines = try cluster.expect(["wal", "dump"] + data).split(separator: "\n")
        #expect(lines.count == all.count + 1 && lines.last?.contains("end of the log") == true)
        let statistics = try cluster.json(["wal", "dump", "--stats"] + data)
        #expect(statistics["count"] as? Int == all.count)
        let forms = all.flatMap { $0["changes"] as? [[String: Any]] ?? [] }.filter { $0["continued"] as? Bool == false }
        #expect(statistics["images"] as? Int == forms.count { $0["form"] as? String == "image" })
        #expect(statistics["differences"] as? Int == forms.count { $0["form"] as? String == "difference" })
        let kinds = try #require(statistics["kinds"] as? [[String: Any]])
        #expect(kinds.reduce(0) { $0 + ($1["count"] as? Int ?? 0) } == all.count)
        #expect(try cluster.expect(["wal", "dump", "--stats"] + data).contains("all records"))
    }

    @Test("wal dump reads a directory whose control file is gone bad, and one in use")
    func walDumpOfTheDamaged() throws {
        let cluster = try stopped()
        let before = try records(cluster, ["--data", cluster.data]).count
        let control = cluster.data + "/control"
        let saved = try Data(contentsOf: URL(filePath: control))
        try Data(count: 8192).write(to: URL(filePath: control))
        #expect(try records(cluster, ["--data", cluster.data]).count == before)
        try saved.write(to: URL(filePath: control))
        try cluster.startLeader()
        #expect(try records(cluster, ["--data", cluster.data]).count >= before)
        cluster.killLeader()
    }

    @Test("wal dump of a node that was promoted reads across the switch, in the directory and in single segments")
    func walDumpOfTimelines() throws {
        let cluster = try TestCluster()
        try cluster.startLeader()
        try cluster.startAgent()
        try cluster.load("a\t1\n")
        try cluster.expect(["backup"])
        try cluster.load("b\t2\n")
        try cluster.archivedPoint("here")
        try cluster.load("c\t3\n")
        #expect(cluster.stopAgent() == 0)
        #expect(cluster.stopLeader() == 0)
        try cluster.restoreAndStart(["--target-name", "here"])
        try cluster.load("d\t4\n")
        #expect(cluster.stopLeader() == 0)
        #expect(try cluster.json(["check", "--data", cluster.data])["ok"] as? Bool == true)
        let all = try records(cluster, ["--data", cluster.data])
        #expect(Set(all.compactMap { $0["timeline"] as? Int }) == [1, 2])
        #expect(all.contains { $0["kind"] as? String == "timelineSwitch" })
        let name = try #require(
            FileManager.default.contentsOfDirectory(atPath: cluster.data + "/wal").filter { $0.hasPrefix("00000002") }
                .compactMap { SegmentName($0) }.min())
        let segment = try records(cluster, ["\(cluster.data)/wal/\(name)"])
        #expect(Set(segment.compactMap { $0["timeline"] as? Int }) == [1, 2])
    }

    @Test("wal dump of damaged and wrong input: 64 and 65, and what is sound is shown first")
    func walDumpBad() throws {
        let cluster = try stopped()
        let data = ["--data", cluster.data]
        func refused(_ arguments: [String], _ status: Int32, _ words: [String]) throws {
            try cluster.refused(["wal", "dump"] + arguments, status: status, saying: words)
        }
        try refused(data + ["--from", "yesterday"], 64, ["--from", "yesterday", "0/3000028"])
        try refused(data + ["--to", "0/1/2"], 64, ["--to", "0/1/2"])
        try refused(data + ["--from", "0/2", "--to", "0/2"], 64, ["0/2"])
        try refused(data + ["--kind", "commits"], 64, ["commits", "restorePoint"])
        try refused(data + ["000000010000000000000001"], 64, ["exclude each other"])
        try refused(data + ["--from", "FF/0"], 65, ["FF/0", "0/1000000"])
        try refused(data + ["--timeline", "9"], 65, ["timeline 9"])
        try refused(["--data", cluster.root + "/nowhere"], 65, ["nowhere"])
        try refused(["--data", cluster.root], 65, [cluster.root])
        try refused([cluster.configuration], 65, ["holdfast.yaml"])
        let segment = cluster.data + "/wal/000000010000000000000001"
        // Below the place that the control file knows to have been durable.
        let middle = try #require(try records(cluster, data).dropFirst(5).first?["lsn"] as? String)
        let at = Int(try #require(LSN(middle)).rawValue % UInt64(SegmentNumber.bytes))
        try patch(segment, at: at + 33, [0xFF])
        for source in [data, [segment]] {
            let text = try cluster.run(["wal", "dump"] + source)
            #expect(text.status == 65 && text.errors.contains(middle), "\(text.errors)")
            #expect(text.output.split(separator: "\n").count == 5)
            let json = try cluster.run(["wal", "dump", "--format", "json"] + source)
            #expect(json.status == 65)
            let whole = try object(json.output)
            #expect((whole["records"] as? [Any])?.count == 5)
            #expect((whole["problem"] as? String)?.contains(middle) == true)
        }
    }

    // MARK: control and page dump

    @Test("B6: control shows both slots and which is in use; a damaged one is named, two are refused with the way out")
    func control() throws {
        let cluster = try stopped()
        let whole = try cluster.json(["control"])
        let slots = try #require(whole["slots"] as? [[String: Any]])
        let inUse = try #require(whole["slot"] as? Int)
        #expect(slots.count == 2 && slots[inUse]["slot_state"] as? String == "in use")
        #expect(slots[1 - inUse]["slot_state"] as? String == "older")
        #expect(whole["state"] as? String == "stopped" && (whole["problems"] as? [Any])?.isEmpty == true)
        for field in ["redo_lsn", "known_durable_end", "timeline_token", "last_transaction", "redo_chain"] {
            #expect(whole[field] != nil && "\(whole[field]!)" == "\(slots[inUse][field]!)", "\(field)")
        }
        let path = cluster.data + "/control"
        let saved = try Data(contentsOf: URL(filePath: path))
        try patch(path, at: (1 - inUse) * 4096 + 100, [saved[(1 - inUse) * 4096 + 100] ^ 1])
        let damaged = try cluster.run(["control"])
        #expect(damaged.status == 65)
        #expect(
            damaged.output.contains("slot \(1 - inUse) is damaged: its checksum does not match"), "\(damaged.output)")
        #expect(damaged.output.contains("redo_lsn"))
        let json = try object(cluster.run(["control", "--format", "json"]).output)
        #expect((json["slots"] as? [[String: Any]])?[1 - inUse]["slot_state"] as? String == "damaged")
        try patch(path, at: inUse * 4096, [UInt8](repeating: 0, count: 8))
        try cluster.refused(
            ["control"], status: 65, saying: ["slot 0", "slot 1", "checksum", "does not begin", "holdfast restore"])
    }

    @Test("page dump shows a page's fields as text and JSON, damaged or not")
    func pageDump() throws {
        let cluster = try stopped()
        let meta = try cluster.unchanged("page dump") { try cluster.json(["page", "dump", "0"]) }
        #expect(meta["kind"] as? String == "meta" && meta["checksum_ok"] as? Bool == true)
        let pages = try #require(meta["page_count"] as? Int)
        #expect(pages > 20)
        var kinds: Set<String> = []
        var keys: Set<String> = []
        for page in 0..<pages {
            let dump = try cluster.json(["page", "dump", "--data", cluster.data, String(page)])
            #expect(dump["ok"] as? Bool == true)
            kinds.insert(try #require(dump["kind"] as? String))
            guard dump["kind"] as? String == "leaf", page > 1 else { continue }
            keys.formUnion((dump["entries"] as? [[String: Any]] ?? []).compactMap { $0["key"] as? String })
        }
        #expect(kinds.isSuperset(of: ["meta", "leaf", "branch", "overflow"]))
        #expect(keys == Set((0..<3000).map { "key\(String(format: "%05d", $0))" } + ["large"]))
        let text = try cluster.expect(["page", "dump", "3"])
        #expect(text.contains("checksum_ok        true") && text.contains(" bytes  key0"), "\(text)")

        try patch(cluster.data + "/pages/00000000", at: 3 * 8192 + 7000, [1, 2, 3])
        let damaged = try cluster.run(["page", "dump", "3"])
        #expect(damaged.status == 65)
        #expect(damaged.output.contains("checksum_ok        false") && damaged.output.contains("problem: checksum"))
        try cluster.refused(["page", "dump", "100000"], status: 65, saying: ["page 100000", "pages/00000000"])
        try cluster.refused(["page", "dump", "4294967295"], status: 65, saying: ["page 4294967295"])
        try cluster.refused(["page", "dump", "--data", cluster.root, "1"], status: 65, saying: [cluster.root])
        let usage = try cluster.run(["page", "dump", "x"])
        #expect(usage.status == 64 && usage.output == "")
    }
}
