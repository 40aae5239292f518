import HoldfastCore

extension LogWriter {
    /// Returns when the log is durable beyond `lsn`, after so long, or when `wakeWaiters` is called: ask what is true then.
    /// `isNeedless` is asked before the wait, so that what was set before `wakeWaiters` is never missed. A flush
    /// pays nothing for this when nobody waits: it wakes those that wait for it anyway.
    package func waitForDurable(beyond lsn: LSN, milliseconds: Int, unless isNeedless: () -> Bool) {
        monitor.lock()
        defer { monitor.unlock() }
        // A flush between the caller's look and the lock has woken nobody.
        guard durableLSN <= lsn, failure == nil, !isNeedless() else { return }
        monitor.wait(milliseconds: milliseconds)
    }

    /// Ends every wait for the log: for one of them who must look at something else.
    package func wakeWaiters() {
        monitor.lock()
        monitor.wakeAll()
        monitor.unlock()
    }
}
