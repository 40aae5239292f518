import HoldfastCore
import HoldfastEngine
import HoldfastWire

/// `holdfast check --data`: the pages of a directory that no server uses. Writes nothing.
package enum CheckDirectory {
    package static func run(_ path: String) throws -> Report {
        let result = try DirectoryCheck(disk: RealDisk(root: WorkingDirectory.absolute(path))).run()
        return CheckReport(
            lsn: result.lsn.description, pages: Int(clamping: result.pages), unlisted: Int(clamping: result.unlisted),
            problems: result.problems.map { (object: $0.object, problem: $0.problem) }
        ).report
    }
}

/// `holdfast check --connect`: the pages of a running server, which checks them itself.
package enum CheckServer {
    package static func run(_ server: WireServer) throws -> Report {
        let client = try WireClient(to: server)
        defer { client.close() }
        let reply = try client.call("CHECK", patience: .unlimited)
        guard let lsn = reply["lsn"]?.text, let pages = reply["pages"]?.integer,
            let listed = reply["problems"]?.elements
        else { throw WireError.unexpectedReply(command: "CHECK", "it lacks lsn, pages or problems") }
        return CheckReport(
            lsn: lsn, pages: Int(pages), unlisted: Int(reply["unlisted"]?.integer ?? 0),
            problems: listed.map { (object: $0["object"]?.text ?? "", problem: $0["problem"]?.text ?? "") }
        ).report
    }
}

/// What a check of pages found, wherever it ran.
private struct CheckReport {
    var lsn: String
    var pages: Int
    var unlisted: Int
    var problems: [(object: String, problem: String)]

    var report: Report {
        var text = problems.map { "\(terminalSafe($0.object)): \(terminalSafe($0.problem))\n" }.joined()
        if unlisted > 0 { text += "and \(unlisted) problems more\n" }
        let checked = "\(pages) pages checked, \(Quantity.bytes(pages * Page.bytes)), structure as of \(lsn)"
        text += problems.isEmpty ? "\(checked): all sound\n" : "\(checked): \(problems.count + unlisted) problems\n"
        return Report(
            text: text,
            json: [
                "ok": .boolean(problems.isEmpty), "lsn": .string(lsn),
                "problems": .array(
                    problems.map { ["object": .string($0.object), "problem": .string($0.problem)] }),
                "unlisted_problems": JSONValue(unlisted), "objects": JSONValue(pages),
                "bytes": JSONValue(pages * Page.bytes),
            ], status: problems.isEmpty ? .done : .dataError)
    }
}
