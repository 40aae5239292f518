import HoldfastCore
import HoldfastWAL

/// Backups of a follower.
///
/// **Start**: the redo point of the last restartpoint. It is one of the leader's, so that of every page that changes behind it
/// the log holds an image before its first difference; and every page that lacks a commit below it was written before the
/// control file named it. A copy of the files as they are, at whatever moment, needs nothing of the log before it.
///
/// **Stop**: the end of the last commit that was carried out. No page that was copied is newer: a page is written only when it
/// lies at or below the minimum recovery point, which is raised to what readers are shown and no further, and a commit is
/// noted here before its pages are installed. So the stop is the minimum recovery point, less the records that change no
/// page. It is not raised to those, since they may lie in a segment that an idle leader completes only with its next commit,
/// and the backup would wait for that one. Behind a redo point without a commit the checkpoint's own record is the stop: of
/// the log behind the start something must be there.
///
/// No record of the log tells the end of such a backup. The CRC at the stop takes its place: whoever takes the backup looks
/// for it in the archive, so that the archive's log is known to be this one's up to the stop.
///
/// A promotion waits until a call of these has ended, since both write the control file; behind it they throw.
extension Follower {
    /// Takes a restartpoint, if a checkpoint of the leader allows a newer one, and says where replay begins now.
    func beginBackup() throws -> ControlData {
        try whileFollowing {
            try takeRestartpoint()
            var control = file.current
            if planted(.backupAbovePages), let end = locked({ $0.lastCommit }) {
                control.redo.lsn = max(control.redo.lsn, end.lsn)
            }
            _ = try stopPlace(control.redo.timeline, control.token)
            return control
        }
    }

    /// - Parameter timeline: the start's, with its token. A backup does not cross a promotion, neither here nor elsewhere.
    func endBackup(_ timeline: TimelineID, _ token: TimelineToken) throws -> LogPlace {
        try whileFollowing { try stopPlace(timeline, token) }
    }

    private func stopPlace(_ timeline: TimelineID, _ token: TimelineToken) throws(EngineError) -> LogPlace {
        let (places, history) = locked { ([$0.lastCommit, $0.anchor].compactMap { $0 }, $0.history) }
        guard let place = places.max(by: { $0.lsn < $1.lsn }) else {
            throw .backupOver("it has replayed nothing behind its redo point yet")
        }
        guard history.entry(timeline)?.token == token, history.contains(timeline, place.lsn) else {
            throw .backupOver(
                "its log went over to timeline \(history.timeline(at: place.lsn)), and its last restartpoint lies on "
                    + "timeline \(timeline): the new leader's next checkpoint allows one")
        }
        return place
    }

    /// Runs `body`, which may write pages and the control file: no promotion goes on, and nothing is closed, before it ends.
    private func whileFollowing<R>(_ body: () throws -> R) throws -> R {
        let promoting = EngineError.backupOver("this node is being promoted, or was")
        try locked { state in
            if state.isStopping { throw EngineError.closed }
            if state.isPromoting { throw promoting }
            state.threads += 1
        }
        defer { ended() }
        do {
            return try body()
        } catch EngineError.closed where locked({ $0.isPromoting }) {
            throw promoting
        }
    }
}
