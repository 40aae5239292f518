import Foundation
import HoldfastTestSupport
import Testing

/// The built binary on a disk whose calls fail from a moment on; then the same directory on a sound one.
@Suite(
    "A disk that fails ends the process with 74 and one line, and what was acknowledged is there afterwards",
    .serialized, .enabled(if: FaultyCalls.isPossible, "needs a C compiler: the one that Swift brings, or cc"))
struct FailingDiskTests {
    struct Fault: CustomTestStringConvertible {
        var call: FaultyCalls.Call
        /// A part of the path, below the data directory.
        var file: String
        /// What reaches the broken file, when it is not a commit.
        var command: [String]?

        var testDescription: String { "\(call.rawValue) of \(file)" }
    }

    /// The exit status of a process that must end by itself.
    private func status(_ process: RunningProcess) throws -> Int32 {
        try waitUntil("the process ends") { !process.isRunning }
        return process.wait()
    }

    @Test(
        "A5: a failed sync of the log, of pages, of the control file, of a directory",
        arguments: [
            Fault(call: .sync, file: "/data/wal/00000001"), Fault(call: .write, file: "/data/wal/00000001"),
            Fault(call: .sync, file: "/data/pages/00000000", command: ["checkpoint"]),
            Fault(call: .sync, file: "/data/control", command: ["checkpoint"]),
            Fault(call: .sync, file: "/data/wal/archive_status", command: ["wal", "switch"]),
        ])
    func fatal(_ fault: Fault) throws {
        let cluster = try TestCluster()
        let faults = cluster.root + "/faults"
        try FileManager.default.createDirectory(atPath: faults, withIntermediateDirectories: false)
        try cluster.startLeader(environment: FaultyCalls.environment(faults))
        let leader = try #require(cluster.leader)
        let writer = try RawConnection(port: cluster.port)
        var acknowledged: [String] = []
        func set(_ key: String) throws -> Bool {
            writer.request("SET", key, "value of \(key)")
            guard try writer.line() == "+OK" else { return false }
            acknowledged.append(key)
            return true
        }
        for number in 0..<50 { #expect(try set("before:\(number)")) }
        try FaultyCalls.begin(fault.call, of: fault.file, in: faults)
        if let command = fault.command {
            let result = try cluster.run(command)
            #expect(result.status != 0, "\(command) succeeded on a disk that fails")
        } else {
            #expect(try !set("after"), "a write was acknowledged although its sync failed")
        }
        #expect(try status(leader) == 74, "\(leader.errors)")
        let lines = leader.errors.split(separator: "\n").filter { $0.hasPrefix("holdfast: ") }
        #expect(lines.count == 1, "\(leader.errors)")
        let line = String(lines.first ?? "")
        for word in ["fatal", cluster.root + fault.file, "hint:"] {
            #expect(line.contains(word), "it does not say \"\(word)\": \(line)")
        }
        #expect(leader.output == "")
        // Whoever asks now is told that nobody is there.
        let away = try cluster.run(["status"])
        #expect(away.status == 69, "\(away.errors)")

        try cluster.startLeader()
        let dump = try Set(cluster.dump().split(separator: "\n").map(String.init))
        for key in acknowledged { #expect(dump.contains("\(key)\tvalue of \(key)"), "\(key) is lost") }
        try cluster.load("later\t1\n")
        #expect(cluster.stopLeader() == 0)
        try cluster.expect(["check", "--data", cluster.data])
    }

    @Test("A3: a disk that cannot be synced at the start: 74, nothing served, and the next start is fine")
    func start() throws {
        let cluster = try TestCluster()
        try cluster.startLeader()
        try cluster.load("a\t1\n")
        cluster.killLeader()
        let faults = cluster.root + "/faults"
        try FileManager.default.createDirectory(atPath: faults, withIntermediateDirectories: false)
        for (call, file) in [
            (FaultyCalls.Call.sync, "/data/control"), (.sync, "/data/wal/00000001"), (.sync, "/data/pages/00000000"),
            (.read, "/data/wal/00000001"), (.read, "/data/control"),
        ] {
            try FaultyCalls.begin(call, of: file, in: faults)
            let process = try cluster.launchLeader(environment: FaultyCalls.environment(faults))
            #expect(try status(process) == 74, "\(call) of \(file): \(process.errors)")
            #expect(process.errors.contains(cluster.root + file), "\(process.errors)")
            #expect(process.errors.contains("hint:"), "\(process.errors)")
            #expect(!process.errors.contains("serving"))
            try FileManager.default.removeItem(atPath: faults + "/" + call.rawValue)
        }
        try cluster.startLeader()
        #expect(try cluster.dump() == "a\t1\n")
        #expect(cluster.stopLeader() == 0)
    }
}
