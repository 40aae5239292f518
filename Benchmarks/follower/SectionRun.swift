import Foundation

/// The sections: in each round every side does the work in turn, then what came out is compared.
struct SectionRun {
    let rounds: Int
    let logMegabytes: Int
    let divergenceMegabytes: Int
    let loadSeconds: Int
    let sides: [any Contender]

    func measure(_ section: Section) throws {
        switch section {
        case .provision: try provision()
        case .catchup: for source in LogSource.allCases { try catchUp(from: source) }
        case .lag: try lag()
        case .promote: try promote()
        case .rewind: try rewind()
        case .failover: try failover()
        }
    }

    private func eachRound(_ body: (any Contender) throws -> Void) rethrows {
        for _ in 0..<rounds { for side in sides { try body(side) } }
    }

    private func provision() throws {
        var figures = Figures()
        for isLoaded in [false, true] {
            let leader = isLoaded ? "loaded leader" : "idle leader"
            try eachRound { side in
                let load = isLoaded ? try side.startLoad() : nil
                defer { load?.kill() }
                if isLoaded { sleep(2) }
                let made = try side.provision()
                figures.note("new follower to its first read, \(leader)", of: side, made.seconds, unit: "s")
                figures.note(
                    "read from the leader for it, \(leader)", of: side, Double(made.bytesFromLeader) / 1e6, unit: "MB")
            }
        }
        figures.print()
    }

    private func catchUp(from source: LogSource) throws {
        var figures = Figures()
        try eachRound { side in
            let caught = try side.catchUp(megabytes: logMegabytes, from: source)
            let streamed = caught.streamed.map { String(format: ", %.0f MB of it streamed", Double($0) / 1e6) } ?? ""
            say(
                String(
                    format: "  %@, %@: %.0f MB of log, %.2f million updates, in %.2f s", side.name, source.rawValue,
                    Double(caught.bytes) / 1e6, Double(caught.changes) / 1e6, caught.seconds) + streamed)
            func note(_ title: String, _ value: Double, _ unit: String) {
                figures.note("\(title), \(source)", of: side, value / caught.seconds, unit: unit, better: .higher)
            }
            note("catch-up", Double(caught.bytes) / 1e6, "MB/s")
            note("catch-up, records", Double(caught.changes) / 1e3, "k/s")
        }
        figures.print()
        for side in sides { try side.dropFollowers() }
    }

    private func lag() throws {
        var figures = Figures()
        for _ in 0..<rounds {
            for side in sides {
                var alone = UnderLoad(rate: .nan, leaderMicroseconds: .nan, lagMilliseconds: [])
                for followers in [0, 1, 3] {
                    let under = try side.measureLoad(followers: followers, seconds: loadSeconds)
                    let beside = "\(followers) follower\(followers == 1 ? "" : "s")"
                    figures.note("writes, \(beside)", of: side, under.rate, unit: "/s", better: .higher)
                    figures.note(
                        "leader's processor for a write, \(beside)", of: side, under.leaderMicroseconds, unit: "us")
                    guard followers > 0 else {
                        alone = under
                        continue
                    }
                    figures.note(
                        "writes, \(beside), of those alone", of: side, under.rate / alone.rate * 100, unit: "%",
                        better: .higher)
                    figures.note(
                        "leader's processor, \(beside), of that alone", of: side,
                        under.leaderMicroseconds / alone.leaderMicroseconds * 100, unit: "%")
                    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
                        figures.note(
                            "lag, \(beside), \(name)", of: side, percentile(share, of: under.lagMilliseconds),
                            unit: "ms")
                    }
                }
                // The other side is measured without them.
                try side.pauseFollowers()
            }
        }
        figures.print()
        for side in sides { try side.dropFollowers() }
    }

    private func promote() throws {
        var figures = Figures()
        try eachRound { side in
            figures.note("promotion to the first write", of: side, try side.promote(), unit: "s")
        }
        figures.print()
    }

    private func rewind() throws {
        var figures = Figures()
        try eachRound { side in
            let rewound = try side.rewind(megabytes: divergenceMegabytes)
            figures.note("rewind, \(divergenceMegabytes) MiB of divergence", of: side, rewound.seconds, unit: "s")
            figures.note("rewind to its first read", of: side, rewound.secondsToServing, unit: "s")
        }
        figures.print()
    }

    private func failover() throws {
        guard let ours = sides.lazy.compactMap({ $0 as? HoldfastContender }).first else { return }
        try ours.withFailover { lose in
            var figures = Figures()
            for _ in 0..<rounds {
                figures.note("kill -9 of the leader to the first write", of: ours, try lose(), unit: "s")
            }
            figures.print()
        }
    }
}
