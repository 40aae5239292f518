import HoldfastCore
import HoldfastTestSupport
import HoldfastWAL
import Testing

@testable import HoldfastEngine
@testable import HoldfastReplica

@Suite("When a follower syncs what a stream brings")
struct FlushPaceTests {
    private let start = SegmentNumber(5).start + 4096
    private let time = ContinuousClock.now

    private func positions(_ received: LSN, flushed: LSN) -> FollowerPositions {
        FollowerPositions(received: received, flushed: flushed, applied: flushed)
    }

    @Test("the last that the leader has is synced before anything else is done, and once")
    func last() {
        var pace = FlushPace(flushed: start, at: time)
        let now = positions(start + 800, flushed: start)
        #expect(pace.step(now, leader: now.received, isMoreHere: false, at: time) == .atOnce)
        #expect(pace.step(now, leader: now.received, isMoreHere: false, at: time) == .none)
    }

    @Test("the last is synced beside the receiving thread when it is much, more is here, or a sync runs")
    func beside() {
        for (bytes, flushed, isMoreHere) in [
            (FlushPace.smallBytes + 8, start, false), (800, start, true), (800, LSN(start.rawValue - 8), false),
        ] {
            var pace = FlushPace(flushed: start, at: time)
            let now = positions(start + bytes, flushed: flushed)
            #expect(pace.step(now, leader: now.received, isMoreHere: isMoreHere, at: time) == .soon(now.received))
        }
    }

    @Test("whole segments, while the leader has the rest of the one that is received")
    func segments() {
        var pace = FlushPace(flushed: start, at: time)
        let leader = SegmentNumber(9).start
        var at = start, asked: [LSN] = []
        while at < SegmentNumber(7).start + 8192 {
            at = at + 8192
            switch pace.step(positions(at, flushed: start), leader: leader, isMoreHere: true, at: time) {
            case .none: break
            case .soon(let lsn): asked.append(lsn)
            case .atOnce: Issue.record("nothing is waited for")
            }
        }
        #expect(asked == [SegmentNumber(6).start, SegmentNumber(7).start])
    }

    @Test("pieces of a MiB in the segment that the leader still writes; what is left of them when nothing follows")
    func pieces() {
        var pace = FlushPace(flushed: start, at: time)
        let leader = start + (4 << 20)
        var now = positions(start + (FlushPace.pieceBytes - 8), flushed: start)
        #expect(pace.step(now, leader: leader, isMoreHere: true, at: time) == .none)
        #expect(pace.isPending(now))
        now.received = now.received + 8
        #expect(pace.step(now, leader: leader, isMoreHere: true, at: time) == .soon(now.received))
        #expect(!pace.isPending(now))
        now.received = now.received + 16
        #expect(pace.isPending(now) && pace.all(now, at: time) == now.received && !pace.isPending(now))
    }

    @Test("a stream that brings no whole segment in time is synced all the same")
    func slow() {
        var pace = FlushPace(flushed: start, at: time)
        let leader = SegmentNumber(9).start
        let now = positions(start + 800, flushed: start)
        #expect(pace.step(now, leader: leader, isMoreHere: false, at: time + .milliseconds(1)) == .none)
        #expect(pace.step(now, leader: leader, isMoreHere: false, at: time + FlushPace.longest) == .soon(now.received))
        let later = positions(now.received + 800, flushed: now.received)
        #expect(pace.step(later, leader: leader, isMoreHere: false, at: time + FlushPace.longest) == .none)
    }

    @Test("however messages come, what was asked for only rises, is here already, and in the end is all of it")
    func random() {
        var random = SeededGenerator(seed: SeededGenerator.announcedSeed("pace of flushes"))
        for _ in 0..<200 {
            var pace = FlushPace(flushed: start, at: time)
            var now = positions(start, flushed: start), at = time, asked = start
            let leader = start + Int.random(in: 1...(40 << 20), using: &random)
            while now.received < leader {
                now.received = min(leader, now.received + Int.random(in: 1...(512 << 10), using: &random))
                at = at + .milliseconds(Int.random(in: 0...40, using: &random))
                switch pace.step(now, leader: leader, isMoreHere: .random(using: &random), at: at) {
                case .none: break
                case .atOnce:
                    now.flushed = now.received
                    asked = now.received
                case .soon(let lsn):
                    #expect(asked < lsn && lsn <= now.received)
                    asked = lsn
                }
                if Bool.random(using: &random) { now.flushed = max(now.flushed, asked) }
            }
            #expect(asked == leader && !pace.isPending(now))
        }
    }
}
