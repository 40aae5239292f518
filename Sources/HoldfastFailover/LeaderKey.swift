import HoldfastCore

/// A node's lease in etcd, and the leader's key on it.
///
/// Used by one task at a time.
package actor LeaderKey {
    private let etcd: EtcdClient
    private let keys: FailoverKeys
    private let node: String
    private let ttlMilliseconds: Int
    package private(set) var lease: Int64 = 0
    /// Until when, by `BootClock`, the lease cannot have passed; 0: there is no lease.
    package private(set) var deadline: Int64 = 0

    package init(_ etcd: EtcdClient, _ keys: FailoverKeys, node: String, ttlMilliseconds: Int) {
        self.etcd = etcd
        self.keys = keys
        self.node = node
        self.ttlMilliseconds = ttlMilliseconds
    }

    /// Renews the lease, or takes a new one where it is gone. The clock is read before anything is sent.
    /// - Returns: until when the lease holds.
    @discardableResult
    package func renew() async throws(EtcdError) -> Int64 {
        if lease != 0 {
            let sent = BootClock.microseconds()
            do throws(EtcdError) {
                try await etcd.keepAlive(lease)
                extend(sent)
                return deadline
            } catch .leaseGone {
                (lease, deadline) = (0, 0)
            }
        }
        let sent = BootClock.microseconds()
        lease = try await etcd.grant(seconds: (ttlMilliseconds + 999) / 1000)
        extend(sent)
        return deadline
    }

    private func extend(_ sent: Int64) {
        deadline = max(deadline, LeaseDeadline.after(sent: sent, ttlMilliseconds: ttlMilliseconds))
    }

    /// Tries to take the key, if nobody has it and the last word is still the one that was seen.
    /// - Returns: whether it is this node's now. After a throw it may be: the next look tells.
    package func campaign(_ view: ClusterView, word: LeaderWord) async throws(EtcdError) -> Bool {
        guard lease != 0 else { return false }
        return try await etcd.transaction(
            [.isAbsent(keys.leader), .isUnchanged(keys.word, since: view.wordRevision)],
            [
                .put(keys.leader, Array(node.utf8), lease: lease),
                .put(keys.word, ClusterView.encode(word), lease: nil),
            ])
    }

    /// Leaves a leader's word, if the key is still this node's.
    package func say(_ word: LeaderWord, holding holder: KeyHolder) async throws(EtcdError) -> Bool {
        try await etcd.transaction(
            [.isTheOne(keys.leader, madeAt: holder.madeAt)], [.put(keys.word, ClusterView.encode(word), lease: nil)])
    }

    /// Leaves this node's record, on its lease.
    package func publish(_ record: NodeRecord) async throws(EtcdError) {
        guard lease != 0 else { return }
        try await etcd.put(keys.node(node), ClusterView.encode(record), lease: lease)
    }

    /// Makes the node known for good.
    package func join() async throws(EtcdError) { try await etcd.put(keys.member(node), Array(node.utf8)) }

    package func look() async throws(EtcdError) -> ClusterView {
        try ClusterView(try await etcd.read(prefix: keys.prefix), keys)
    }

    /// Gives the lease back, and with it key and record. Nothing may be acknowledged any more before this is called.
    package func release() async {
        guard lease != 0 else { return }
        try? await etcd.revoke(lease)
        (lease, deadline) = (0, 0)
    }
}
