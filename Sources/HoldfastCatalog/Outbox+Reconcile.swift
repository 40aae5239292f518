import Foundation
import Glibc
import HoldfastCore

/// The flag that says: facts of this cluster were left out, read its whole repository.
///
/// An announcer whose fact did not fit raises the flag before its change and holds a shared lock on it until the
/// change is made. A rebuild may lower the flag only when no such announcer was under way as it began (its change may
/// come after the reading) and none has raised it since.
extension Outbox {
    /// The state of the flag before a rebuild reads the repository.
    struct Flag: Equatable {
        let cluster: String
        /// `nil`: somebody is between announcing and completing, so this rebuild proves nothing.
        let raised: Data?
    }

    static func flagName(_ cluster: String) -> String { "\(cluster),reconcile" }

    static func cluster(ofFlag name: String) -> String? {
        let parts = name.split(separator: ",", omittingEmptySubsequences: false)
        return parts.count == 2 && parts[1] == "reconcile" && ObjectName.isValid(parts[0]) ? String(parts[0]) : nil
    }

    /// Raises the flag durably. Returns a descriptor that holds it up. The file keeps its inode, since the locks of
    /// earlier announcers are on it; its bytes are compared within one boot only, so a torn write does no harm.
    func raiseFlag(in folder: borrowing OutboxFiles, for cluster: String) throws(CatalogError) -> Int32 {
        let name = Self.flagName(cluster)
        let mark = Data(UUID().uuidString.utf8)
        return try folder.overwrite(name, with: mark)
    }

    /// Asks for the cluster's whole repository to be read at the next flush.
    package func requestReconcile(cluster: String) throws(CatalogError) {
        guard ObjectName.isValid(cluster) else { throw .name(ObjectName.refusal(cluster, of: "cluster")) }
        let descriptor = try OutboxFiles.locked(directory) { folder throws(CatalogError) in
            try raiseFlag(in: folder, for: cluster)
        }
        close(descriptor)
    }

    /// To be called before the repository is read; `nil` when the flag is not raised.
    func flag(for cluster: String) throws(CatalogError) -> Flag? {
        try OutboxFiles.locked(directory) { folder throws(CatalogError) in
            let name = Self.flagName(cluster)
            guard folder.exists(name) else { return nil }
            guard let descriptor = try folder.openLocked(name, exclusively: true) else {
                return Flag(cluster: cluster, raised: nil)
            }
            defer { close(descriptor) }
            return Flag(cluster: cluster, raised: try folder.read(descriptor, name))
        }
    }

    /// Lowers the flag after a rebuild that began with `flag`. `false`: it stays, another rebuild is due.
    func lower(_ flag: Flag) throws(CatalogError) -> Bool {
        guard let raised = flag.raised else { return false }
        return try OutboxFiles.locked(directory) { folder throws(CatalogError) in
            let name = Self.flagName(flag.cluster)
            guard folder.exists(name) else { return true }
            guard let descriptor = try folder.openLocked(name, exclusively: true) else { return false }
            defer { close(descriptor) }
            guard try folder.read(descriptor, name) == raised else { return false }
            try folder.remove(name)
            return true
        }
    }
}
