// The wire against redis-server with `appendfsync always`: redis-benchmark drives both in turn, 100-byte
// values, 50 clients, pipelines of 1 and 16, over loopback TCP. Needs redis-server and redis-benchmark.
//
//     swift run -c release -Xswiftc -enforce-exclusivity=unchecked bench-server [rounds] [requests]

import BenchmarkSupport
import Foundation
import HoldfastTestSupport

let rounds = CommandLine.arguments.dropFirst().first.flatMap { Int($0) } ?? 5
let requests = CommandLine.arguments.dropFirst(2).first.flatMap { Int($0) } ?? 200_000
guard let redis = BuiltBinary.tool("redis-server"), BuiltBinary.tool("redis-benchmark") != nil else {
    print("redis-server and redis-benchmark are needed: deploy/install-packages test")
    exit(69)
}

let directory = try TemporaryDirectory("bench-server")
let ourPort = Int.random(in: 30_000..<35_000)
let theirPort = ourPort + 5_000

_ = try shell("\(BuiltBinary.path) init --data \(directory.path)/data")
let ours = try RunningProcess(
    BuiltBinary.path,
    [
        "serve", "--data", "\(directory.path)/data", "--listen", "127.0.0.1:\(ourPort)", "--socket",
        "\(directory.path)/s",
    ])
let theirs = try RunningProcess(
    redis,
    [
        "--port", "\(theirPort)", "--dir", directory.path, "--appendonly", "yes", "--appendfsync", "always", "--save",
        "",
        "--bind", "127.0.0.1",
    ])
for (port, process) in [(ourPort, ours), (theirPort, theirs)] {
    try waitUntil("the server answers on \(port)", while: process) {
        (try? shell("redis-cli -p \(port) ping"))?.hasPrefix("PONG") == true
    }
}
print(try shell("redis-server --version").trimmingCharacters(in: .whitespacesAndNewlines), "appendfsync always")

func rate(_ port: Int, _ test: String, pipeline: Int) throws -> Double {
    let count = pipeline == 1 ? requests : requests * 5
    let line = try shell(
        "redis-benchmark -p \(port) -t \(test) -n \(count) -r 1000000 -d 100 -c 50 -P \(pipeline) --csv | tail -1")
    guard let figure = line.split(separator: ",").dropFirst().first.flatMap({ Double($0.filter { $0 != "\"" }) }) else {
        throw CommandFailed(command: "redis-benchmark", status: 1, errors: line)
    }
    return figure
}

for (test, name) in [("set", "durable SET"), ("get", "GET")] {
    for pipeline in [1, 16] {
        var comparison = Comparison(
            "\(name), 50 clients, pipeline \(pipeline)", unit: "/s", better: .higher, peer: "redis")
        try comparison.run(rounds: rounds) {
            try rate(ourPort, test, pipeline: pipeline)
        } theirs: {
            try rate(theirPort, test, pipeline: pipeline)
        }
        comparison.print()
    }
}
ours.stop()
theirs.stop()
