import Foundation
import HoldfastTestSupport

/// How long a sync of the log takes, and so who does the server's writes: the event loop at a turn's end where it is quick,
/// the writer thread where it is slow.
enum SyncSpeed: CaseIterable {
    case asItIs
    case slow

    /// Those that this machine can make.
    static var possible: [SyncSpeed] { FaultyCalls.isPossible ? allCases : [.asItIs] }

    /// Starts the leader so, and waits until it answers.
    func start(_ cluster: TestCluster) throws {
        guard self == .slow else { return try cluster.startLeader() }
        let directory = cluster.root + "/slow"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        try FaultyCalls.begin(.slowSync, of: "/wal/", in: directory)
        try cluster.startLeader(environment: FaultyCalls.environment(directory))
    }
}
