import Foundation
import HoldfastCore

/// The keys of a cluster in etcd:
///
///     /holdfast/<cluster>/leader          who may write; hangs on its holder's lease
///     /holdfast/<cluster>/word            the last leader's last word; stays
///     /holdfast/<cluster>/nodes/<name>    how a node is; hangs on the node's lease
///     /holdfast/<cluster>/members/<name>  that there is such a node; stays until it is forgotten
package struct FailoverKeys: Sendable {
    package let prefix: String

    package init(cluster: String) { prefix = "/holdfast/\(cluster)/" }

    package var leader: String { prefix + "leader" }
    package var word: String { prefix + "word" }
    package var nodes: String { prefix + "nodes/" }
    package var members: String { prefix + "members/" }
    package func node(_ name: String) -> String { nodes + name }
    package func member(_ name: String) -> String { members + name }
}

/// What a node says about itself.
package struct NodeRecord: Codable, Sendable, Equatable {
    package enum Role: String, Codable, Sendable { case leader, follower, recovering }
    package var node: String
    package var role: Role
    /// Where followers reach it.
    package var address: String
    package var timeline: TimelineID
    package var flushed: LSN
    package var applied: LSN
    package var time: Timestamp
    /// The term whose key this follower found gone before it read `flushed`, and to whose leader it listens no more.
    package var vacantTerm: Int64?

    package init(
        node: String, role: Role, address: String, timeline: TimelineID, flushed: LSN, applied: LSN, time: Timestamp,
        vacantTerm: Int64? = nil
    ) {
        self.node = node
        self.role = role
        self.address = address
        self.timeline = timeline
        self.flushed = flushed
        self.applied = applied
        self.time = time
        self.vacantTerm = vacantTerm
    }

    enum CodingKeys: String, CodingKey {
        case node, role, address, timeline, time
        case flushed = "flushed_lsn"
        case applied = "applied_lsn"
        case vacantTerm = "vacant_term"
    }
}

/// What the last leader said of itself while it held the key. It outlives the leader.
package struct LeaderWord: Codable, Sendable, Equatable {
    /// Counts those who got the key, whether or not they came to lead.
    package var term: Int64
    /// The last that led.
    package var node: String
    package var timeline: TimelineID
    /// The end of its durable log.
    package var lsn: LSN
    /// So many followers have whatever it acknowledged; 0: nobody need have it.
    package var minimumFollowers: Int
    /// Who got the key since to open a timeline, and has not led yet: it may have opened one.
    package private(set) var candidates: Set<String>?
    /// Of those the ones that `node` has led after, once more on the old timeline: what they opened lacks that.
    package private(set) var overtaken: Set<String>?

    package init(term: Int64, node: String, timeline: TimelineID, lsn: LSN, minimumFollowers: Int) {
        self.term = term
        self.node = node
        self.timeline = timeline
        self.lsn = lsn
        self.minimumFollowers = minimumFollowers
    }

    enum CodingKeys: String, CodingKey {
        case term, node, timeline, lsn, candidates, overtaken
        case minimumFollowers = "min_followers"
    }

    /// The word with which `node`, a follower, takes the key. Until it leads, it is still the old leader's.
    package func takingOver(_ node: String) -> LeaderWord {
        var word = self
        word.term += 1
        word.candidates = (candidates ?? []).union([node])
        word.overtaken = overtaken?.subtracting([node])
        return word
    }

    /// A word of one that leads, or is about to once more, behind `last`.
    package func following(_ last: LeaderWord?) -> LeaderWord {
        guard let last, last.node == node else { return self }
        var word = self
        let passed = (last.overtaken ?? []).union(last.candidates ?? [])
        word.overtaken = passed.isEmpty ? nil : passed
        return word
    }
}

/// Who has the key.
package struct KeyHolder: Sendable, Equatable {
    package var node: String
    package var lease: Int64
    package var madeAt: Int64

    package init(node: String, lease: Int64, madeAt: Int64) {
        self.node = node
        self.lease = lease
        self.madeAt = madeAt
    }
}

/// A cluster's state in etcd at one moment.
package struct ClusterView: Sendable, Equatable {
    package var holder: KeyHolder?
    package var word: LeaderWord?
    /// 0: there is none.
    package var wordRevision: Int64 = 0
    package var nodes: [NodeRecord] = []
    package var members: Set<String> = []

    package init() {}

    /// What cannot be read counts as not there: but for the leader's key, which counts as somebody's.
    package init(_ state: EtcdState, _ keys: FailoverKeys) throws(EtcdError) {
        for (key, entry) in state.entries {
            if key == keys.leader {
                holder = KeyHolder(
                    node: String(decoding: entry.value, as: UTF8.self), lease: entry.lease,
                    madeAt: entry.createRevision)
            } else if key == keys.word {
                wordRevision = entry.modRevision
                word = Self.decode(entry.value)
                if word == nil { throw .unexpectedAnswer("\(key) is none of this release's records") }
            } else if key.hasPrefix(keys.nodes) {
                if let node: NodeRecord = Self.decode(entry.value) { nodes.append(node) }
            } else if key.hasPrefix(keys.members) {
                members.insert(String(key.dropFirst(keys.members.count)))
            }
        }
        nodes.sort { $0.node < $1.node }
    }

    private static func decode<R: Decodable>(_ bytes: [UInt8]) -> R? {
        try? JSONDecoder().decode(R.self, from: Data(bytes))
    }

    package static func encode(_ record: some Encodable) -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        // Strings and integers: nothing that JSON cannot say.
        return Array((try? encoder.encode(record)) ?? Data())
    }
}
