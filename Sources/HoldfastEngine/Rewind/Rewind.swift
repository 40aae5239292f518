import HoldfastCore
import HoldfastWAL

/// What an operator asks of a rewind.
package struct RewindOrder<D: Disk>: Sendable {
    /// The command that finishes an interrupted one.
    package var command: String
    /// How the node follows afterwards.
    package var signal: StandbySignal
    /// Opens the directory `<data>.rewound-<name>` beside the data directory, and makes it, durably, when told to; `nil`: it is
    /// not there.
    package var beside: @Sendable (_ name: String, _ isMade: Bool) throws -> D?

    package init(
        command: String, signal: StandbySignal, beside: @escaping @Sendable (String, Bool) throws -> D?
    ) {
        self.command = command
        self.signal = signal
        self.beside = beside
    }

    /// How every command begins that a rewind leaves in the control file.
    static var commandPrefix: String { "holdfast rewind" }
}

/// Brings a node whose log has left its leader's history back as a follower, by the pages that it changed since.
///
/// **Why the result is whole.** Let F be the fork and R a redo point of the node at or below F. A page that the node's own log
/// changes behind F (the set S) is taken from the source; every other page of the node bears only changes at or below F,
/// which both histories have, and every change at or below R is on its disk. Replay from R along the new history applies, to each
/// page, first an image: R is a redo point of the common log, so that a page's first change behind it is one; and where that
/// first change lies behind F, the new timeline's leader had taken F for a redo point when it opened it. An image is applied
/// whatever the page holds: so it does not matter that a page is torn or stale after a crash (the node is not recovered first),
/// or that a page of S is newer than what replay applies to it. A page that replay does not change is right as it is: one
/// outside S since the common log changes it nowhere behind R, one of S since the source's log does not. The directory is
/// one moment from the place on that the source names after the last page was read: no page of it is newer.
///
/// **Why a crash can be survived anywhere.** Before anything changes, the list of what is thrown away, its log and the plan
/// (S, R, F) are durable beside the directory (1). Then both slots of the control file say "restore in progress" and name this
/// command (2): nothing else opens the directory from here on, and the log is not read again, since the plan tells all. The
/// pages of S are written and synced (3), the log behind F is removed, histories and signals are put in place (4), and the
/// control file says last that the node follows (5). A crash before (2) has changed nothing; one behind it is met by the
/// same command, which takes S anew from a source of the same fork, and repeats (3) to (5). Before (2) the directory is only
/// read: its log is not appended to, and nothing of it is marked for the archive.
package struct Rewind<D: Disk> {
    let disk: D
    let order: RewindOrder<D>
    let source: any RewindSource
    let archive: (any RecoverySource)?

    /// - Parameter archive: where segments are found that the node has recycled; `nil`: there is none.
    package init(_ disk: D, _ order: RewindOrder<D>, from source: any RewindSource, archive: (any RecoverySource)?) {
        self.disk = disk
        self.order = order
        self.source = source
        self.archive = archive
    }

    /// Takes the directory's lock. When it returns, the directory is a follower's, whole and durable.
    /// - Throws: `RewindError`, `EngineError`, and what the source throws; `disk` with EWOULDBLOCK while a server uses it.
    package func run() throws -> RewindResult {
        guard try onDisk({ () throws(DiskError) in try disk.exists(ControlData.path) }) else {
            throw EngineError.notADataDirectory(disk.root)
        }
        try onDisk { () throws(DiskError) in try disk.lock() }
        defer { disk.unlock() }
        try onDisk { () throws(DiskError) in try TrustedDirectory(disk).establish() }
        let file = try ControlFile(opening: disk)
        defer { file.close() }
        let peer = try source.identify()
        guard peer.system == file.current.system else {
            throw RewindError.foreign(
                path: disk.root, found: file.current.system, expected: peer.system, source: source.name)
        }
        return try file.current.state == .restoring ? goOn(file, peer) : begin(file, peer)
    }

    /// An earlier rewind was interrupted.
    private func goOn(_ file: ControlFile<D>, _ peer: RewindPeer) throws -> RewindResult {
        let control = file.current
        guard control.command.hasPrefix(RewindOrder<D>.commandPrefix), let fork = control.minimumRecoveryPoint else {
            throw EngineError.restoreInProgress(control.command)
        }
        let name = RewindPlan.place(control.timeline, fork.lsn)
        guard let saved = try order.beside(name, false) else {
            throw RewindError.savedMissing(path: disk.root + ".rewound-" + name)
        }
        let (plan, own) = try SavedBranch(saved).read(control)
        guard let found = peer.history.fork(from: own) else {
            throw RewindError.nothingInCommon(path: disk.root, source: source.name)
        }
        guard found.lsn == plan.fork.lsn, found.timeline == plan.fork.timeline else {
            throw RewindError.otherFork(expected: plan.fork.lsn, found: found.lsn, source: source.name)
        }
        var result = try finish(plan, own, peer, file, saved: saved)
        result.isRepeated = true
        return result
    }

    private func begin(_ file: ControlFile<D>, _ peer: RewindPeer) throws -> RewindResult {
        let branch = try OwnBranch(disk, file.current, archive)
        guard let found = peer.history.fork(from: branch.history) else {
            throw RewindError.nothingInCommon(path: disk.root, source: source.name)
        }
        let fork = ControlData.Position(timeline: found.timeline, lsn: found.lsn)
        if fork.lsn == .max, !branch.isFollower, peer.durable == nil {
            throw RewindError.onlyTimeline(path: disk.root, branch.history.timeline)
        }
        let scanned = try branch.scan(fork: fork)
        if let durable = peer.durable, fork.lsn == .max, branch.mustReach > durable {
            throw RewindError.aheadOfLeader(own: branch.mustReach, leader: durable, source: source.name)
        }
        guard scanned.log.end.position > LogLayout.canonical(fork.lsn) else {
            return try follow(file, branch, scanned.log.end, fork, peer)
        }
        let redo = try branch.redoPoint(fork: fork, scanned)
        // Read from there, so that nothing is changed when the log down to the fork is not whole.
        let log = redo.position.lsn < scanned.start ? try branch.scan(fork: fork, from: redo).log : scanned.log
        let control = file.current
        let plan = RewindPlan(
            system: control.system, timeline: control.timeline, end: log.end.position, fork: fork, redo: redo.position,
            redoChain: redo.chain, checkpointLSN: redo.checkpointLSN <= fork.lsn ? redo.checkpointLSN : .zero,
            checkpointTime: redo.time, lastTransaction: redo.lastTransaction, greatestRedo: control.greatestRedo,
            demand: control.demand, lost: log.lost,
            runs: Array(log.pages.runs(atMost: PageRun.mostPages).dropLast(planted(.rewindForgetsPages) ? 1 : 0)))
        let name = RewindPlan.place(control.timeline, fork.lsn)
        guard let saved = try order.beside(name, true) else {
            throw RewindError.savedMissing(path: disk.root + ".rewound-" + name)
        }
        // (1)
        try SavedBranch(saved).write(plan, branch.history, list: log.list, segmentsOf: disk)
        // (2)
        var marked = control
        marked.state = .restoring
        marked.command = order.command
        marked.minimumRecoveryPoint = fork
        try onDisk { () throws(DiskError) in try file.writeBoth(marked) }
        return try finish(plan, branch.history, peer, file, saved: saved)
    }
}
