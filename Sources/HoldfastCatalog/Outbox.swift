import Foundation
import Glibc
import HoldfastCore
import Synchronization

/// Facts on their way to the catalog, in a directory, so that a catalog that is down costs nothing but time.
///
/// Use: `announce` before a change to the repository, `complete` after it.
///
///     let announcement = try outbox.announce(Fact(kind: .backup, cluster: "main", object: id, occurredAt: now))
///     try repository.commit(…)
///     try outbox.complete(announcement)
///
/// When `announce` returns, the object's name is on the disk. A crash from there on leaves the fact, and delivery
/// reads the repository: it does not matter whether the change happened. While the announcing process lives and has
/// not completed, a lock on the fact's file (`flock`, which dies with its process) keeps delivery away: a delivery
/// *before* the change would take the fact away and leave the change unseen.
///
/// The directory holds at most `maximumFacts` facts and `maximumBytes` bytes. What does not fit leaves a durable flag
/// for its cluster instead, and the next flush reads that cluster's whole repository (`Delivery`).
///
///     <cluster>,<kind>,<UUID>.json         a fact
///     <cluster>,timeline,<timeline>.json   one for all changes of a timeline's WAL, however many wait
///     <cluster>,reconcile                  the flag; its bytes change whenever it is raised
///     .new-<UUID>                          being written
///
/// Every change of the directory is made under a lock on the directory itself, held for one step and never for a wait.
package final class Outbox: Sendable {
    package let directory: String
    package let maximumFacts: Int
    package let maximumBytes: Int

    /// A fact that is named but not yet to be delivered. Ended by `complete`, or by the end of the process.
    package final class Announcement: Sendable {
        /// `nil`: the outbox was full, and the flag is raised instead.
        let name: String?
        let fact: Fact
        private let descriptor: Mutex<Int32?>

        init(name: String?, fact: Fact, locked descriptor: Int32) {
            self.name = name
            self.fact = fact
            self.descriptor = Mutex(descriptor)
        }

        deinit { release() }

        /// Lets delivery have the fact: the lock goes with its last descriptor.
        func release() {
            descriptor.withLock {
                if let open = $0 { close(open) }
                $0 = nil
            }
        }
    }

    /// Opens the outbox in `directory`, which is made, mode 0700, when it is not there.
    package init(
        directory: String, maximumFacts: Int = 10_000, maximumBytes: Int = 16 << 20
    ) throws(CatalogError) {
        precondition(maximumFacts >= 0 && maximumBytes >= 0)
        self.directory = directory
        self.maximumFacts = maximumFacts
        self.maximumBytes = maximumBytes
        try OutboxFiles.makeDirectory(directory)
    }

    /// Names the object durably before the repository changes. Never fails because the outbox is full.
    package func announce(_ fact: Fact) throws(CatalogError) -> Announcement {
        let data = fact.encoded()
        precondition(data.count <= Fact.maximumBytes, "the texts of a fact are cut so that it fits")
        return try OutboxFiles.locked(directory) { folder throws(CatalogError) in
            let name = fileName(of: fact)
            if fact.kind.mayCoalesce, let shared = try folder.openLocked(name, exclusively: false) {
                // Whoever wrote it may have died between its rename and its sync.
                try folder.sync()
                return Announcement(name: name, fact: fact, locked: shared)
            }
            let held = try folder.sweepAndMeasure()
            if held.facts >= maximumFacts || held.bytes + data.count > maximumBytes {
                return Announcement(name: nil, fact: fact, locked: try raiseFlag(in: folder, for: fact.cluster))
            }
            return Announcement(name: name, fact: fact, locked: try folder.write(data, to: name))
        }
    }

    /// The change is made (or has failed: delivery reads what is there). `outcome` replaces what was announced, under
    /// the announced identity; without it the fact stands as it was.
    package func complete(_ announcement: Announcement, outcome: Fact? = nil) throws(CatalogError) {
        defer { announcement.release() }
        guard let outcome, let name = announcement.name else { return }
        precondition(outcome.cluster == announcement.fact.cluster && outcome.kind == announcement.fact.kind)
        try OutboxFiles.locked(directory) { folder throws(CatalogError) in
            let written = try folder.write(outcome.encoded(), to: name)
            close(written)
        }
    }

    /// A fact about something that has happened already or is in no repository.
    package func add(_ fact: Fact) throws(CatalogError) { try complete(announce(fact)) }

    private func fileName(of fact: Fact) -> String {
        let last = fact.kind.mayCoalesce ? fact.object : fact.id.uuidString.lowercased()
        return "\(fact.cluster),\(fact.kind.rawValue),\(last).json"
    }

    // MARK: what waits

    /// Facts in the directory, announced ones included, and the clusters whose flag is raised.
    package struct Contents: Sendable, Equatable {
        package var facts = 0
        package var bytes = 0
        package var reconcile: [String] = []
    }

    package func contents() throws(CatalogError) -> Contents {
        try OutboxFiles.locked(directory) { folder throws(CatalogError) in
            let held = try folder.sweepAndMeasure()
            return Contents(
                facts: held.facts, bytes: held.bytes,
                reconcile: try folder.names().compactMap(Self.cluster(ofFlag:)).sorted())
        }
    }

    /// The names of the facts' files, in no order that matters.
    func factNames() throws(CatalogError) -> [String] {
        try OutboxFiles.locked(directory) { folder throws(CatalogError) in
            try folder.names().filter { OutboxFiles.isFact($0) }.sorted()
        }
    }

    /// A fact taken for delivery: no announcer holds it and no other delivery gets it meanwhile.
    struct Taken: ~Copyable {
        let name: String
        /// `nil`: the file is damaged.
        let fact: Fact?
        let descriptor: Int32
        deinit { close(descriptor) }
    }

    /// `nil` when the fact is gone, still announced, or being delivered by another.
    func take(_ name: String) throws(CatalogError) -> Taken? {
        try OutboxFiles.locked(directory) { folder throws(CatalogError) in
            guard let descriptor = try folder.openLocked(name, exclusively: true) else { return nil }
            do throws(CatalogError) {
                let data = try folder.read(descriptor, name)
                return Taken(
                    name: name, fact: try Fact.decode(data, path: "\(directory)/\(name)"), descriptor: descriptor)
            } catch {
                close(descriptor)
                throw error
            }
        }
    }

    /// Removes a delivered fact, unless a newer one has taken its name.
    func remove(_ taken: borrowing Taken) throws(CatalogError) {
        let (name, descriptor) = (taken.name, taken.descriptor)
        try OutboxFiles.locked(directory) { folder throws(CatalogError) in
            if folder.isNamed(name, descriptor) { try folder.remove(name) }
        }
    }

    /// A file that is no fact any more: its cluster is read whole instead, and the file goes.
    func discardDamaged(_ taken: borrowing Taken) throws(CatalogError) {
        let name = taken.name
        try OutboxFiles.locked(directory) { folder throws(CatalogError) in
            if let cluster = name.split(separator: ",").first, ObjectName.isValid(cluster) {
                close(try raiseFlag(in: folder, for: String(cluster)))
            }
            try folder.remove(name)
        }
    }
}
