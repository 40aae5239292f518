import HoldfastBackup
import HoldfastCore
import HoldfastEngine
import HoldfastWAL
import HoldfastWire

/// The pages of a rewind from a leader, inside a backup of its: so its checkpoints and log are as a backup needs them, and
/// its stop says from where on what was read is one moment.
final class LeaderRewindSource: RewindSource {
    private let server: WireServer
    private var leader: LeaderConnection?
    private var history: TimelineHistory?
    /// The last segment that replay needs, once the pages are read.
    private(set) var lastSegment: SegmentName?

    init(_ server: WireServer) { self.server = server }

    var name: String { server.address.description }

    func identify() throws -> RewindPeer {
        let connection = try LeaderConnection(to: server)
        let identity = try connection.identity()
        connection.close()
        guard identity.role == NodeRole.leader.rawValue else {
            throw RewindRefusal.notLeader(name, role: identity.role)
        }
        let history = try LeaderConnection(to: server).history(identity)
        self.history = history
        return RewindPeer(system: identity.systemIdentifier, history: history, durable: identity.durableLSN)
    }

    func begin(fork: LSN) throws -> ControlData.Position? {
        let leader = try LeaderConnection(to: server)
        let start = try leader.startBackup(label: "rewind", isFast: true)
        guard start.timeline == history?.timeline, start.token == history?.current.token else {
            throw RewindRefusal.leaderChanged(name)
        }
        self.leader = leader
        return nil
    }

    func read(_ runs: [PageRun], _ body: (PageNumber, UnsafeRawBufferPointer) throws -> Void) throws {
        guard let leader else { preconditionFailure("begin comes first") }
        let files = try leader.files()
        var pieces: [LeaderConnection.Piece] = []
        var places: [PageNumber] = []
        let zeros = [UInt8](repeating: 0, count: PageRun.mostPages * Page.bytes)
        for run in runs {
            let path = PageNumber.filePath(run.first.fileIndex)
            let bytes = files.first { $0.path == path }?.bytes ?? 0
            let held = bytes > run.first.fileOffset ? Int((bytes - run.first.fileOffset) / UInt64(Page.bytes)) : 0
            let count = min(run.count, held)
            if count > 0 {
                pieces.append(.init(path: path, offset: run.first.fileOffset, count: count * Page.bytes))
                places.append(run.first)
            }
            if count < run.count {
                // The leader has never allocated them, or will have logged them whole.
                try zeros[..<((run.count - count) * Page.bytes)].withUnsafeBytes {
                    try body(PageNumber(run.first.rawValue + UInt32(count)), $0)
                }
            }
        }
        try leader.read(pieces) { index, bytes in
            try bytes.withUnsafeBytes { try body(places[index], $0) }
        }
    }

    func end() throws -> ControlData.Position {
        guard let leader else { preconditionFailure("begin comes first") }
        let stop = try leader.stopBackup()
        leader.close()
        lastSegment = stop.lastSegment
        return .init(timeline: stop.lastSegment.timeline, lsn: stop.stopLSN)
    }
}

/// Why a leader is none to rewind from.
enum RewindRefusal: DiagnosableError {
    case notLeader(String, role: String)
    case leaderChanged(String)

    var diagnosis: Diagnosis {
        switch self {
        case .notLeader(let address, let role):
            Diagnosis(
                "this server does not lead", at: address, why: "it is a \(printable(role))",
                next: "give the address of the leader", status: .tryAgain)
        case .leaderChanged(let address):
            Diagnosis(
                "the leader has opened another timeline meanwhile", at: address, next: "repeat the rewind",
                status: .tryAgain)
        }
    }
}
