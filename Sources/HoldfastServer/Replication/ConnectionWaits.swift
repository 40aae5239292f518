import NIOCore

/// Connections that wait for followers (`WAIT`) or for the log (`WAITLSN`). Belongs to the event loop.
final class ConnectionWaits {
    private final class Wait {
        let id: Int
        let isMet: () -> Bool
        let finish: () -> Void
        var timer: Scheduled<Void>?

        init(id: Int, isMet: @escaping () -> Bool, finish: @escaping () -> Void) {
            self.id = id
            self.isMet = isMet
            self.finish = finish
        }
    }

    private let loop: any EventLoop
    private var waits: [Wait] = []
    /// Waits that nobody tells of what they wait for: looked at every two milliseconds while there are any.
    private var poll: RepeatedTask?

    /// Connections that wait.
    var count: Int { waits.count }

    init(loop: any EventLoop) { self.loop = loop }

    /// Calls `finish` once `isMet`, or after so many milliseconds (0: never), and not before it returns.
    func add(_ id: Int, milliseconds: Int64, isPolled: Bool, isMet: @escaping () -> Bool, finish: @escaping () -> Void)
    {
        let wait = Wait(id: id, isMet: isMet, finish: finish)
        waits.append(wait)
        let this = NIOLoopBound((self, wait), eventLoop: loop)
        if milliseconds > 0 {
            wait.timer = loop.scheduleTask(in: .milliseconds(milliseconds)) { this.value.0.end { $0 === this.value.1 } }
        }
        guard isPolled else { return }
        if poll == nil {
            poll = loop.scheduleRepeatedTask(initialDelay: .milliseconds(2), delay: .milliseconds(2)) { _ in
                this.value.0.look()
            }
        }
    }

    /// Something has moved.
    func look() {
        if !waits.isEmpty { end { $0.isMet() } }
    }

    /// The connection is gone: nobody is answered.
    func forget(_ id: Int) {
        for wait in waits where wait.id == id { wait.timer?.cancel() }
        waits.removeAll { $0.id == id }
        restIfIdle()
    }

    /// The client sends nothing more: it is answered with what is so now.
    func end(_ id: Int) { end { $0.id == id } }

    /// The server stops: everybody is answered with what is so now.
    func endAll() { end { _ in true } }

    private func end(_ isOver: (Wait) -> Bool) {
        let over = waits.filter(isOver)
        guard !over.isEmpty else { return }
        waits.removeAll { wait in over.contains { $0 === wait } }
        restIfIdle()
        for wait in over {
            wait.timer?.cancel()
            wait.finish()
        }
    }

    private func restIfIdle() {
        guard waits.isEmpty else { return }
        poll?.cancel()
        poll = nil
    }
}
