import Foundation
import HoldfastCore
import HoldfastTestSupport
import Testing

@testable import HoldfastCatalog

@Suite("The outbox keeps facts durably, within its bounds, and from delivery until they are complete")
struct OutboxTests {
    let temporary: TemporaryDirectory
    let directory: String

    init() throws {
        temporary = try TemporaryDirectory("holdfast-outbox")
        directory = temporary.path + "/state/outbox"
    }

    private func fact(_ kind: Fact.Kind = .backup, _ object: String = "b1") throws -> Fact {
        try Fact(kind: kind, cluster: "main", object: object, occurredAt: at(1), detail: ["why": "test"])
    }

    private func files() throws -> [String] { try FileManager.default.contentsOfDirectory(atPath: directory).sorted() }

    @Test("a fact is on the disk, closed to others, when announce returns, and is read back as it was")
    func format() throws {
        let outbox = try Outbox(directory: directory)
        let id = try #require(UUID(uuidString: "6F9619FF-8B86-D011-B42D-00C04FC964FF"))
        let fact = try Fact(
            kind: .backup, cluster: "main", object: "b1", occurredAt: at(1), detail: ["why": "it's \u{1B} time"], id: id
        )
        try outbox.add(fact)
        let names = try files()
        #expect(names == ["main,backup,6f9619ff-8b86-d011-b42d-00c04fc964ff.json"])
        let path = "\(directory)/\(names[0])"
        let text = try String(contentsOfFile: path, encoding: .utf8)
        #expect(
            text
                == #"{"cluster":"main","detail":{"why":"it's \\u{1b} time"},"id":"6F9619FF-8B86-D011-B42D-00C04FC964FF","#
                + #""kind":"backup","object":"b1","occurred_at":1795478401000000,"version":1}"#)
        #expect(try Fact.decode(Data(text.utf8), path: path) == fact)
        var status = stat()
        #expect(stat(path, &status) == 0 && status.st_mode & 0o777 == 0o600)
        #expect(stat(directory, &status) == 0 && status.st_mode & 0o777 == 0o700)
    }

    @Test("an announced fact is not to be had until it is complete, nor is it lost when its announcer goes away")
    func announced() throws {
        let outbox = try Outbox(directory: directory)
        var announcement: Outbox.Announcement? = try outbox.announce(fact())
        let name = try #require(try outbox.factNames().first)
        #expect(try outbox.take(name) == nil)
        try outbox.complete(#require(announcement))
        #expect(try outbox.take(name)?.fact?.object == "b1")
        announcement = try outbox.announce(fact(.backup, "b2"))
        let second = try #require(try outbox.factNames().first { $0 != name })
        #expect(try outbox.take(second) == nil)
        // As when the process dies: its locks go, the file stays.
        announcement = nil
        #expect(try outbox.take(second)?.fact?.object == "b2")
    }

    @Test("an outcome replaces what was announced, under the same name")
    func outcome() throws {
        let outbox = try Outbox(directory: directory)
        var report = RestoreReport(backup: "b1", target: "latest", outcome: .started)
        let announcement = try outbox.announce(Fact(cluster: "main", restore: report, occurredAt: at(1)))
        report.outcome = .unpacked
        try outbox.complete(announcement, outcome: Fact(cluster: "main", restore: report, occurredAt: at(2)))
        let names = try outbox.factNames()
        #expect(names.count == 1)
        #expect(try outbox.take(names[0])?.fact?.restore?.outcome == .unpacked)
    }

    @Test("changes of one timeline wait as one fact, and that one until the last announcer has completed")
    func coalesced() throws {
        let outbox = try Outbox(directory: directory)
        let first = try outbox.announce(fact(.timeline, "00000001"))
        let second = try outbox.announce(fact(.timeline, "00000001"))
        #expect(try files() == ["main,timeline,00000001.json"])
        try outbox.complete(first)
        #expect(try outbox.take("main,timeline,00000001.json") == nil)
        try outbox.complete(second)
        guard let taken = try outbox.take("main,timeline,00000001.json") else { throw NoError() }
        // Announced while the old one is being delivered: it must not go with the old one.
        let third = try outbox.announce(fact(.timeline, "00000001"))
        try outbox.remove(taken)
        #expect(try files() == ["main,timeline,00000001.json"])
        try outbox.complete(third)
        #expect(try outbox.take("main,timeline,00000001.json")?.fact?.id == third.fact.id)
    }

    @Test("what does not fit, by count or by bytes, raises the flag and takes no room", arguments: [0, 1])
    func overflow(_ kind: Int) throws {
        let outbox = try Outbox(
            directory: directory, maximumFacts: kind == 0 ? 3 : 1000, maximumBytes: kind == 0 ? 1 << 20 : 600)
        for number in 0..<50 { try outbox.add(fact(.backup, "b\(number)")) }
        let contents = try outbox.contents()
        #expect(contents.facts == 3 && contents.bytes <= 600)
        #expect(contents.reconcile == ["main"])
        #expect(try files().count == 4)
        #expect(try Outbox(directory: directory).contents().reconcile == ["main"])
    }

    @Test("the flag stays up while somebody who raised it may still be changing the repository")
    func flag() throws {
        let outbox = try Outbox(directory: directory, maximumFacts: 0)
        let early = try outbox.announce(fact())
        // A rebuild begins and reads; the change comes after; then the rebuild ends.
        let begun = try #require(try outbox.flag(for: "main"))
        try outbox.complete(early)
        #expect(try outbox.lower(begun) == false)
        // Raised during the rebuild.
        let again = try #require(try outbox.flag(for: "main"))
        try outbox.add(fact())
        #expect(try outbox.lower(again) == false)
        // Nobody under way and nobody since.
        let last = try #require(try outbox.flag(for: "main"))
        #expect(try outbox.lower(last) == true)
        #expect(try outbox.flag(for: "main") == nil && files() == [])
    }

    @Test("what a crash left half written is swept, and never taken for a fact")
    func halfWritten() throws {
        let outbox = try Outbox(directory: directory)
        try Data("{\"version\":1,".utf8).write(to: URL(fileURLWithPath: directory + "/.new-x"))
        #expect(try outbox.factNames() == [])
        try outbox.add(fact())
        #expect(try files().count == 1)
    }

    @Test(
        "S3: names that may not be names are refused before any I/O, and not printed raw",
        arguments: [
            "", "..", "../x", "a/b", "a\u{0}b", "a\nb", "\u{1B}[31mred", "-x", "a,b", "é",
            String(repeating: "a", count: 64), "10 MB",
        ])
    func names(_ given: String) throws {
        // Ten megabytes as an argument would be printed as one.
        let name = given == "10 MB" ? String(repeating: "x", count: 10_000_000) : given
        let attempts: [() throws -> Void] = [
            { _ = try Fact(kind: .backup, cluster: name, object: "b", occurredAt: at(1)) },
            { _ = try Fact(kind: .backup, cluster: "main", object: name, occurredAt: at(1)) },
            { _ = try Fact(cluster: "main", node: name, NodeReport(role: .leader), occurredAt: at(1)) },
            { _ = try Outbox(directory: directory).requestReconcile(cluster: name) },
        ]
        for attempt in attempts {
            let diagnosis = try catalogError(attempt).diagnosis
            #expect(diagnosis.status == .usage)
            #expect(diagnosis.description.utf8.count < 500)
            #expect(!diagnosis.description.utf8.contains { $0 < 0x20 && $0 != 0x0A || $0 == 0x7F })
        }
    }

    @Test("S3: texts from outside are cut, and their control characters escaped")
    func texts() throws {
        let wild = "a\u{0}\n\u{1B}[2J\u{202E}" + String(repeating: "ü", count: 10_000)
        var report = RestoreReport(backup: nil, target: wild, outcome: .failed)
        report.dataDirectory = wild
        let restore = try Fact(cluster: "main", restore: report, occurredAt: at(1))
        let event = try Fact(kind: .cluster, cluster: "main", object: "main", occurredAt: at(1), detail: ["why": wild])
        for text in [restore.restore?.target, restore.restore?.dataDirectory, event.detail["why"]] {
            #expect(text?.hasPrefix(#"a\u{0}\u{a}\u{1b}[2J\u{202e}üüü"#) == true)
        }
        #expect(restore.encoded().count <= Fact.maximumBytes && event.encoded().count <= Fact.maximumBytes)
    }
}
