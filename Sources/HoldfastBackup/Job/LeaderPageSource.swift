import HoldfastArchive
import HoldfastCore
import Synchronization

/// Pages of the leader over the wire, for a backup taken on another host, and for single pages that a reader of
/// the files finds torn again and again.
final class LeaderPageSource: PageSource {
    /// One connection, one request at a time: the backup belongs to it.
    private let leader: Mutex<LeaderConnection>

    init(_ leader: sending LeaderConnection) { self.leader = Mutex(leader) }

    private static let largestRead = 1 << 20

    func read(file: Int, into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws -> Int {
        var done = 0
        while done < buffer.count {
            let count = min(buffer.count - done, Self.largestRead)
            let bytes = try withLeader {
                try $0.read(PageNumber.filePath(file), at: offset + UInt64(done), count: count)
            }
            UnsafeMutableRawBufferPointer(rebasing: buffer[done..<done + count]).copyBytes(from: bytes)
            done += count
        }
        return done
    }

    func readSettled(_ page: PageNumber, into buffer: UnsafeMutableRawBufferPointer) throws -> Bool {
        let bytes = try withLeader {
            try $0.read(PageNumber.filePath(page.fileIndex), at: page.fileOffset, count: Page.bytes)
        }
        buffer.copyBytes(from: bytes)
        return true
    }

    /// The connection for one exchange.
    func withLeader<R: Sendable>(_ body: (LeaderConnection) throws -> R) throws -> R {
        try leader.withLock { try body($0) }
    }
}
