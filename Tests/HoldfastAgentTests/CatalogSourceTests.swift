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
}
