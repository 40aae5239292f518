import BenchmarkSupport
import Foundation
import HoldfastCore
import HoldfastTestSupport

/// The primary is lost: promotion and rewind.
extension PostgresContender {
    func promote() throws -> Double {
        let node = try makeFollower()
        let load = try startLoad()
        sleep(3)
        leader.kill()
        load.kill()
        let session = try node.connect()
        let start = ContinuousClock.now
        let command = try programs.launch("pg_ctl", ["promote", "-D", node.data])
        try waitForWrite(session, node)
        let time = elapsedSeconds(since: start)
        guard command.wait() == 0 else { throw NeverHappened(what: "promote ends with 0", errors: command.errors) }
        try lead(node)
        return time
    }

    private func waitForWrite(_ session: PostgresSession, _ node: PostgresNode) throws {
        try soon("\(node.name) accepts a write", while: node.server) {
            // An error, and a read-only transaction, until then.
            try session.value("update probe set n = n + 1") == "1" ? () : nil
        }
    }

    func rewind(megabytes: Int) throws -> Rewound {
        let old = leader
        let node = try makeFollower()
        node.stop()
        _ = try writeLog(megabytes: megabytes)
        old.kill()
        try node.start()
        try programs.run("pg_ctl", ["promote", "-D", node.data])
        try waitForWrite(node.connect(), node)
        try node.connect().value("checkpoint")
        try shell("sync")
        let source =
            "host=\(node.sockets) port=\(PostgresNode.port) user=\(PostgresNode.superuser) dbname=\(PostgresNode.database)"
        let start = ContinuousClock.now
        try programs.run("pg_rewind", ["-D", old.data, "--source-server", source, "-R"])
        let time = elapsedSeconds(since: start)
        try old.launch()
        try old.waitForRead()
        let timeToServing = elapsedSeconds(since: start)
        // It follows, or the time says nothing.
        try old.waitApplied(node.end())
        try lead(node)
        return Rewound(seconds: time, secondsToServing: timeToServing)
    }
}
