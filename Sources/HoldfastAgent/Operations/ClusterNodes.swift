import HoldfastCore
import HoldfastFailover

/// `holdfast nodes`: what the nodes say of themselves in etcd, and who holds the leader's key.
package enum ClusterNodes {
    package static func report(_ configuration: Configuration) async throws -> Report {
        try await with(configuration) { etcd, keys in
            report(try ClusterView(try await etcd.read(prefix: keys.prefix), keys))
        }
    }

    /// A node that is gone for good: automatic failover no longer counts it among those that may have what was
    /// acknowledged.
    package static func forget(_ name: String, _ configuration: Configuration) async throws {
        try await with(configuration) { etcd, keys in
            let view = try ClusterView(try await etcd.read(prefix: keys.prefix), keys)
            guard view.members.contains(name) else { throw NodeRefused(name: name, why: "there is no such node") }
            guard view.holder?.node != name, !view.nodes.contains(where: { $0.node == name }) else {
                throw NodeRefused(name: name, why: "it runs, and would be counted again")
            }
            try await etcd.remove(keys.member(name))
        }
    }

    private static func with<R: Sendable>(
        _ configuration: Configuration, _ body: (EtcdClient, FailoverKeys) async throws -> R
    ) async throws -> R {
        let cluster = try configuration.requiredCluster()
        guard let failover = configuration.failover else {
            throw ConfigurationError.missing(
                "failover", why: "nodes are known through etcd only", next: "give failover: {etcd: [https://HOST:PORT]}"
            )
        }
        let etcd = EtcdClient(failover, try failover.access())
        do {
            let result = try await body(etcd, FailoverKeys(cluster: cluster))
            await etcd.close()
            return result
        } catch {
            await etcd.close()
            throw error
        }
    }

    static func report(_ view: ClusterView) -> Report {
        let present = Set(view.nodes.map(\.node))
        let absent = view.members.subtracting(present).sorted()
        var table = TextTable([
            ("node", .left), ("role", .left), ("key", .left), ("timeline", .right), ("flushed", .right),
            ("applied", .right), ("address", .left), ("as of", .left),
        ])
        for node in view.nodes {
            table.add([
                node.node, node.role.rawValue, view.holder?.node == node.node ? "holds it" : "",
                String(node.timeline.rawValue), node.flushed.description, node.applied.description, node.address,
                node.time.description,
            ])
        }
        for name in absent {
            table.add([name, "away", view.holder?.node == name ? "holds it" : "", "", "", "", "", ""])
        }
        let nodes = view.nodes.map { node -> JSONValue in
            [
                "node": .string(node.node), "role": .string(node.role.rawValue),
                "holds_key": .boolean(view.holder?.node == node.node),
                "timeline": .integer(Int64(node.timeline.rawValue)), "flushed_lsn": .init(node.flushed),
                "applied_lsn": .init(node.applied), "address": .string(node.address),
                "time": .string(node.time.description),
            ]
        }
        let word = view.word.map { word -> JSONValue in
            [
                "term": .integer(word.term), "node": .string(word.node),
                "timeline": .integer(Int64(word.timeline.rawValue)), "lsn": .init(word.lsn),
                "min_followers": .init(word.minimumFollowers),
            ]
        }
        return Report(
            text: table.isEmpty ? "no node has made itself known\n" : table.text,
            json: [
                "holder": .init(view.holder?.node), "last_leader": word ?? .null, "nodes": .array(nodes),
                "away": .array(absent.map { .string($0) }),
            ])
    }
}

/// Why a node is not forgotten.
struct NodeRefused: DiagnosableError {
    let name: String
    let why: String
    var diagnosis: Diagnosis {
        Diagnosis(
            "cannot forget node \"\(printable(name))\"", why: why, next: "see holdfast nodes; stop the node first",
            status: .dataError)
    }
}
