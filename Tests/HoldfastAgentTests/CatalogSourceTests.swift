import Foundation
import HoldfastCore
import HoldfastRepository
import HoldfastTestSupport
import Logging
import Testing

@testable import HoldfastAgent

@Suite("What the catalog is shown of the repository")
struct CatalogSourceTests {
    @Test("S12: a repository that is away, or a bare mount point, is an error and not an empty cluster")
    func away() throws {
        let directory = try TemporaryDirectory()
        for root in [directory.path, directory.path + "/missing"] {
            let source = RepositoryCatalogSource(store: PosixStore(root: root))
            let error = #expect(throws: StoreError.self) { _ = try source.cluster("main") }
            #expect(error?.reason == .away)
            #expect(throws: StoreError.self) { _ = try source.backupIDs(cluster: "main") }
            #expect(throws: StoreError.self) { _ = try source.timelines(cluster: "main") }
        }
    }

    @Test("a cluster that is gone from a repository which holds others is gone")
    func removed() throws {
        let directory = try TemporaryDirectory()
        let store = PosixStore(root: directory.path + "/repository")
        _ = try Repository.openOrCreate(store, cluster: "other", systemIdentifier: .random())
        let source = RepositoryCatalogSource(store: store)
        #expect(try source.cluster("other") != nil)
        #expect(try source.cluster("main") == nil)
        #expect(try source.backupIDs(cluster: "main").isEmpty)
    }

    @Test("S12: the repository is read whole once, also when a crash came between the outbox and the request for it")
    func readWholeOnce() throws {
        let directory = try TemporaryDirectory()
        let root = directory.path
        let configuration = try Configuration.load(
            environment: [
                "HOLDFAST_CLUSTER": "main", "HOLDFAST_STATE": root + "/state",
                "HOLDFAST_REPOSITORY__PATH": root + "/repository", "HOLDFAST_CATALOG__URI": "postgresql://nobody@/none",
            ])
        let outbox = root + "/state/main/outbox"
        let flag = outbox + "/main,reconcile"
        // The crash left the directory and nothing in it.
        try FileManager.default.createDirectory(atPath: outbox, withIntermediateDirectories: true)
        let log = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let facts = try #require(CatalogFacts.ifUsable(configuration, log: log))
        #expect(try facts.outbox.contents().reconcile == ["main"])
        try FileManager.default.removeItem(atPath: flag)
        _ = try #require(CatalogFacts.ifUsable(configuration, log: log))
        #expect(!FileManager.default.fileExists(atPath: flag), "it was asked for a second time")
    }
}
