// A full backup and a restore of it, against `tar | zstd -1 -T2`, `zstd -d | tar -x` and `cp` over the same
// directory, in turn; output synced on both sides; wall time of the whole command, with the start's checkpoint
// and the wait for the archive. Then what a backup costs the writers beside it.
//
//     swift run -c release bench-backup [megabytes] [rounds] [text|random]
//
// `text` is the Debian package index over and over; `random` does not compress.

import BenchmarkSupport
import Foundation
import HoldfastTestSupport

let arguments = Array(CommandLine.arguments.dropFirst())
let megabytes = arguments.first.flatMap { Int($0) } ?? 1500
let rounds = arguments.dropFirst().first.flatMap { Int($0) } ?? 5
let kind = arguments.dropFirst(2).first ?? "text"

let scratch = try TemporaryDirectory("bench-backup")
let root = scratch.path
let holdfast = BuiltBinary.path
let port = Int.random(in: 30_000..<40_000)
try """
cluster: bench
data: \(root)/data
leader: unix:\(root)/socket
server: {listen: "127.0.0.1:\(port)", socket: \(root)/socket, cache: 256MiB}
repository: {path: \(root)/repository}
state: \(root)/state
""".write(toFile: root + "/holdfast.yaml", atomically: true, encoding: .utf8)
setenv("HOLDFAST_CONFIG", root + "/holdfast.yaml", 1)

try shell("\(holdfast) init --data \(root)/data")
let server = try RunningProcess(holdfast, ["serve"])
try waitUntil("the leader answers", while: server) { try BuiltBinary.run(["status"]).status == 0 }
let agent = try RunningProcess(holdfast, ["agent"])

// About 750 bytes a record: the index's stanzas, or as many random bytes in hex pairs that `load` unescapes.
let generator = """
    import os, subprocess, sys
    limit = \(megabytes) * 1000000
    stanzas = subprocess.run(['apt-cache', 'dumpavail'], capture_output=True).stdout.split(b'\\n\\n')
    out, made, copy = sys.stdout.buffer, 0, 0
    while made < limit:
        for n, s in enumerate(stanzas):
            if '\(kind)' == 'random':
                s = os.urandom(750)
                v = b''.join(b'\\\\x%02X' % c for c in s)
            else:
                v = s.replace(b'\\\\', b'\\\\\\\\').replace(b'\\t', b'\\\\t').replace(b'\\n', b'\\\\n')
            out.write(b'%03d:%06d\\t' % (copy, n) + v + b'\\n')
            made += len(s) + 24
            if made >= limit: break
        copy += 1
    """
try generator.write(toFile: root + "/generate.py", atomically: true, encoding: .utf8)
let loadTime = try seconds { try shell("python3 \(root)/generate.py | \(holdfast) load") }
try shell("\(holdfast) checkpoint && sync")
let bytes = try shell("du -sm --apparent-size \(root)/data/pages | cut -f1").trimmingCharacters(
    in: .whitespacesAndNewlines)
print("loaded \(bytes) MB of pages (\(kind)) in \(String(format: "%.1f", loadTime)) s")

var peaks: [String: [Double]] = [:]
@MainActor func run(_ name: String, _ arguments: [String]) throws -> Double {
    let (time, peak) = try measured(holdfast, arguments)
    peaks[name, default: []].append(peak)
    return time
}

var backup = Comparison("full backup", unit: "s", better: .lower, peer: "tar | zstd -1 -T2")
try backup.run(rounds: rounds) {
    try run("backup", ["backup"])
} theirs: {
    try seconds {
        try shell(
            "tar -cf - -C \(root)/data pages | zstd -1 -T2 -q -f -o \(root)/peer.tar.zst && sync \(root)/peer.tar.zst")
    }
}
backup.print()

var copy = Comparison("full backup", unit: "s", better: .lower, peer: "cp")
try copy.run(rounds: rounds) {
    try run("backup", ["backup"])
} theirs: {
    try seconds { try shell("rm -rf \(root)/copy && cp -r \(root)/data/pages \(root)/copy && sync -f \(root)/copy") }
}
copy.print()
try shell("rm -rf \(root)/copy")

var restore = Comparison("restore", unit: "s", better: .lower, peer: "zstd -d | tar -x, sync")
for _ in 0..<rounds {
    try shell("rm -rf \(root)/restored \(root)/unpacked && mkdir \(root)/unpacked && sync && sleep 2")
    restore.ours.append(
        try run("restore", ["restore", "--data", root + "/restored", "--target-immediate", "--no-archive"]))
    try shell("sleep 1")
    restore.theirs.append(
        try seconds {
            try shell("zstd -d -q -c \(root)/peer.tar.zst | tar -x -C \(root)/unpacked && sync -f \(root)/unpacked")
        })
}
restore.print()
for (name, values) in peaks.sorted(by: { $0.key < $1.key }) {
    print(String(format: "peak memory of holdfast %@: %.0f MiB", name, values.max() ?? 0))
}

// Writers beside a backup: commands run in a second by the server, with nothing else, and from a backup's begin to its end.
func commandsRun() throws -> Double {
    let line = try shell("redis-cli -p \(port) info stats | grep total_commands_processed")
    return Double(line.filter(\.isNumber)) ?? .nan
}
func rate(during body: () throws -> Void) throws -> Double {
    let before = try commandsRun()
    let time = try seconds(body)
    return (try commandsRun() - before) / time
}
var loss = Comparison("durable SETs, 8 clients, beside a backup", unit: "/s", better: .higher, peer: "without")
let writers = try RunningProcess(
    "/usr/bin/redis-benchmark",
    ["-p", "\(port)", "--dbnum", "1", "-t", "set", "-n", "1000000000", "-r", "100000", "-d", "100", "-c", "8", "-q"])
try shell("sleep 3")
try loss.run(rounds: rounds) {
    try rate { try shell("\(holdfast) backup") }
} theirs: {
    try rate { try shell("sleep 4") }
}
loss.print()
writers.kill()
agent.stop()
server.stop()
