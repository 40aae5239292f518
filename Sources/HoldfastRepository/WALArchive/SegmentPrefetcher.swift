import Foundation
import HoldfastCore

/// Fetches, checks and decompresses segments ahead of a reader that takes them in order, on threads of its own.
/// At most `ahead` segments of 16 MiB are held besides the one that was handed out.
package final class SegmentPrefetcher: Sendable {
    private let archive: WALArchive
    private let ahead: Int
    private let successor: @Sendable (SegmentName) -> SegmentName?
    private let shared: Shared

    /// Everything in it is guarded by its condition; that is why it may be shared.
    private final class Shared: @unchecked Sendable {
        let condition = NSCondition()
        /// In the order wanted; no result yet means that it is waiting or being fetched.
        var wanted: [SegmentName] = []
        var started: Set<SegmentName> = []
        var results: [SegmentName: Result<SegmentBuffer?, any Error>] = [:]
        /// Given back by the reader.
        var spare: [SegmentBuffer] = []
        var stopped = false

        func locked<R>(_ body: () throws -> R) rethrows -> R {
            condition.lock()
            defer { condition.unlock() }
            return try body()
        }
    }

    /// - `successor`: the segment read after another one, `nil` at the end of what is wanted. A timeline's fork is
    ///   the caller's to know; without one it is the next number.
    package init(
        _ archive: WALArchive, ahead: Int = 4, workers: Int = 2,
        successor: @escaping @Sendable (SegmentName) -> SegmentName? = {
            SegmentName(timeline: $0.timeline, segment: $0.segment.next)
        }
    ) {
        precondition(ahead >= 1 && workers >= 1)
        self.archive = archive
        self.ahead = ahead
        self.successor = successor
        shared = Shared()
        for _ in 0..<workers {
            let shared = self.shared
            Thread.detachNewThread { Self.work(shared, archive) }
        }
    }

    deinit { stop() }

    /// Ends the threads; a fetch under way is finished and dropped.
    package func stop() {
        shared.locked {
            shared.stopped = true
            shared.condition.broadcast()
        }
    }

    /// What `WALArchive.fetch(_:into:)` says of this segment; waits for it. What was fetched for another order is
    /// dropped.
    /// - Parameter spent: one that was handed out before and is not looked at any more.
    package func segment(_ name: SegmentName, reusing spent: SegmentBuffer? = nil) throws -> SegmentBuffer? {
        var window = [name]
        while window.count <= ahead, let next = successor(window[window.count - 1]) { window.append(next) }
        let keep = Set(window)
        return try shared.locked {
            precondition(!shared.stopped)
            shared.wanted = window
            if let spent { shared.spare.append(spent) }
            shared.results = shared.results.filter { keep.contains($0.key) }
            shared.condition.broadcast()
            while shared.results[name] == nil { shared.condition.wait() }
            let result = shared.results.removeValue(forKey: name)!
            shared.wanted.removeFirst()
            // Nothing behind the archive's end is kept: it may be there when it is asked for.
            if case .success(nil) = result {
                shared.wanted = []
                shared.results = [:]
            }
            return try result.get()
        }
    }

    private static func work(_ shared: Shared, _ archive: WALArchive) {
        while true {
            let next: (SegmentName, SegmentBuffer)? = shared.locked {
                while !shared.stopped {
                    if let name = shared.wanted.first(where: {
                        shared.results[$0] == nil && !shared.started.contains($0)
                    }) {
                        shared.started.insert(name)
                        return (name, shared.spare.popLast() ?? SegmentBuffer())
                    }
                    shared.condition.wait()
                }
                return nil
            }
            guard let (name, buffer) = next else { return }
            let result = Result { try archive.fetch(name, into: buffer) ? buffer : nil }
            shared.locked {
                shared.started.remove(name)
                // "Not there" is kept only for whoever waits for it: it may be there a moment later.
                let isAhead = shared.wanted.first != name
                if shared.wanted.contains(name) {
                    if case .success(nil) = result, isAhead {
                        shared.wanted.removeAll { $0 >= name }
                    } else {
                        shared.results[name] = result
                    }
                }
                shared.condition.broadcast()
            }
        }
    }
}
