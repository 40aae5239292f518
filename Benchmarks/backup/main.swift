// A full backup and a restore of it, against `tar | zstd -1 -T2`, `zstd -d | tar -x` and `cp` over the same
// directory, in turn; output synced on both sides; wall time of the whole command, with the start's checkpoint
// and the wait for the archive. Then what a backup costs the writers beside it.
//
//     swift run -c release -Xswiftc -enforce-exclusivity=unchecked bench-backup [megabytes] [rounds] [text|random]
//
// `text` is the Debian package index over and over; `random` does not compress.

import BenchmarkSupport
import Foundation
import HoldfastTestSupport

let arguments = Array(CommandLine.arguments.dropFirst())
let megabytes = arguments.first.flatMap { Int($0) } ?? 1500
let rounds = arguments.dropFirst().first.flatMap { Int($0) } ?? 5
let content = arguments.dropFirst(2).first.flatMap { LoadedLeader.Content(rawValue: $0) } ?? .text

let leader = try LoadedLeader(megabytes: megabytes, of: content)
let root = leader.root
let port = leader.port
let holdfast = BuiltBinary.path

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

var back = Comparison("restore", unit: "s", better: .lower, peer: "cp, sync")
for _ in 0..<rounds {
    try shell("rm -rf \(root)/restored \(root)/unpacked && sync && sleep 2")
    back.ours.append(
        try run("restore", ["restore", "--data", root + "/restored", "--target-immediate", "--no-archive"]))
    try shell("sleep 1")
    back.theirs.append(
        try seconds { try shell("cp -r \(root)/data/pages \(root)/unpacked && sync -f \(root)/unpacked") })
}
back.print()
try shell("rm -rf \(root)/restored \(root)/unpacked")
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
    [
        "-p", "\(port)", "--dbnum", "1", "-t", "set", "-n", "1000000000", "-r", "100000", "-d", "100", "-c", "8",
        "-q",
    ])
try shell("sleep 3")
try loss.run(rounds: rounds) {
    try rate { try shell("\(holdfast) backup") }
} theirs: {
    try rate { try shell("sleep 4") }
}
loss.print()
writers.kill()
leader.stop()
