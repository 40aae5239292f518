import HoldfastCore
import HoldfastRepository
import HoldfastTestSupport
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
}
