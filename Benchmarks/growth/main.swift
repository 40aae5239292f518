// What ten times the data costs: a full backup and its restore, of one size and of ten times that size, wall time and
// the most memory held. The time should grow with the data and no more, the memory not at all.
//
//     swift run -c release -Xswiftc -enforce-exclusivity=unchecked bench-growth [megabytes] [rounds]

import BenchmarkSupport
import Foundation
import HoldfastTestSupport

let arguments = Array(CommandLine.arguments.dropFirst())
let megabytes = arguments.first.flatMap { Int($0) } ?? 300
let rounds = arguments.dropFirst().first.flatMap { Int($0) } ?? 5

struct Cost {
    var times: [Double] = []
    var peaks: [Double] = []
}

/// A backup and a restore of it, `rounds` times, of a store of this size.
func costs(of megabytes: Int) throws -> (backup: Cost, restore: Cost) {
    let leader = try LoadedLeader(megabytes: megabytes, of: .text)
    defer { leader.stop() }
    var backup = Cost(), restore = Cost()
    func add(_ arguments: [String], to cost: inout Cost) throws {
        let (time, peak) = try measured(BuiltBinary.path, arguments)
        cost.times.append(time)
        cost.peaks.append(peak)
    }
    for _ in 0..<rounds {
        try add(["backup"], to: &backup)
        let target = leader.root + "/restored"
        try add(["restore", "--data", target, "--target-immediate", "--no-archive"], to: &restore)
        try shell("rm -rf \(target) && sync")
    }
    return (backup, restore)
}

let small = try costs(of: megabytes)
let large = try costs(of: 10 * megabytes)
for (title, one, ten) in [("backup", small.backup, large.backup), ("restore", small.restore, large.restore)] {
    print(
        String(
            format: "%@: %.2f s and %.0f MiB, of 10 times the data %.2f s and %.0f MiB: %.1f times the time",
            title, median(one.times), one.peaks.max() ?? 0, median(ten.times), ten.peaks.max() ?? 0,
            median(ten.times) / median(one.times)))
}
