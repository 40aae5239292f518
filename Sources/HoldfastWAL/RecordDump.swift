import HoldfastCore

/// What `wal dump` shows of a record: a line for people, or a JSON object on one line for programs.
package struct RecordDump {
    package let record: LogRecord
    /// The page changes of a commit's part, as `ChangeScanner` finds them.
    package let changes: [ChangeScanner.Found]

    package init(_ record: LogRecord, changes: [ChangeScanner.Found] = []) {
        self.record = record
        self.changes = changes
    }

    /// A line names so many changes; JSON all.
    private static let changesInLine = 16

    /// `0/1000040  commit begin+commit  end 0/1000118  body 180  mark 0/1000000  crc 1A2B3C4D …  changes 7(120) 8(image 4034)`
    package var line: String {
        var out = "\(record.start)  \(record.kind)"
        if !flagNames.isEmpty { out += " " + flagNames.joined(separator: "+") }
        out += "  end \(record.end)  body \(record.body.count)  mark \(record.mark)"
        out += "  crc \(hexadecimal(UInt64(record.crc), digits: 8))"
        out += "  previous \(hexadecimal(UInt64(record.previousCRC), digits: 8))"
        for (key, value) in details { out += "  \(key) \(value.plain)" }
        if !changes.isEmpty {
            out += "  changes " + changes.prefix(Self.changesInLine).map(Self.plain).joined(separator: " ")
            if changes.count > Self.changesInLine { out += " and \(changes.count - Self.changesInLine) more" }
        }
        return out
    }

    /// `{"lsn":"0/1000040","end":"0/1000118","timeline":1,"kind":"commit",…}`
    package var json: String {
        var fields: [(String, Value)] = [
            ("lsn", .text(record.start.description)), ("end", .text(record.end.description)),
            ("timeline", .number(Int64(record.timeline.rawValue))), ("kind", .text("\(record.kind)")),
            ("body_bytes", .number(Int64(record.body.count))), ("mark", .text(record.mark.description)),
            ("crc", .text(hexadecimal(UInt64(record.crc), digits: 8))),
            ("previous_crc", .text(hexadecimal(UInt64(record.previousCRC), digits: 8))),
        ]
        if record.kind == .commit {
            fields.append(("begin", .truth(record.flags.contains(.begin))))
            fields.append(("commit", .truth(record.flags.contains(.commit))))
        }
        fields += details
        var members = fields.map { "\"\($0.0)\":\($0.1.json)" }
        if record.kind == .commit {
            members.append("\"changes\":[" + changes.map(Self.json).joined(separator: ",") + "]")
        }
        return "{" + members.joined(separator: ",") + "}"
    }

    /// A page, and the bytes of its difference or image; `…` before what began in an earlier part.
    private static func plain(_ change: ChangeScanner.Found) -> String {
        let form = change.form == .image ? "image " : ""
        return "\(change.isContinued ? "…" : "")\(change.page)(\(form)\(change.bytes))"
    }

    private static func json(_ change: ChangeScanner.Found) -> String {
        "{\"page\":\(change.page),\"form\":\"\(change.form)\",\"bytes\":\(change.bytes),"
            + "\"continued\":\(change.isContinued)}"
    }

    private enum Value {
        case text(String)
        case number(Int64)
        /// Transaction numbers: the whole range of 64 bits.
        case count(UInt64)
        case time(Int64)
        case truth(Bool)

        var plain: String {
            switch self {
            case .text(let text): printable(text)
            case .number(let value): String(value)
            case .count(let value): String(value)
            case .time(let microseconds): Timestamp(microseconds: microseconds).description
            case .truth(let value): String(value)
            }
        }

        var json: String {
            switch self {
            case .text(let text): "\"" + jsonEscaped(text) + "\""
            case .time: "\"\(plain)\""
            case .number, .count, .truth: plain
            }
        }
    }

    private var flagNames: [String] {
        (record.flags.contains(.begin) ? ["begin"] : []) + (record.flags.contains(.commit) ? ["commit"] : [])
    }

    private var details: [(String, Value)] {
        switch record.kind {
        case .segmentSwitch, .witness, .filler: return []
        case .commit: return commitDetails
        default: break
        }
        do throws(WALError) {
            switch try RecordBody(decoding: record) {
            case .checkpoint(let redo, let timeline, let last, let time):
                return [
                    ("redo", .text(redo.description)), ("redo_timeline", .number(Int64(timeline.rawValue))),
                    ("last_transaction", .count(last.rawValue)), ("time", .time(time)),
                ]
            case .restorePoint(let name, let time): return [("name", .text(name)), ("time", .time(time))]
            case .backupEnd(let start, let timeline, let token, let time):
                return [
                    ("start", .text(start.description)), ("start_timeline", .number(Int64(timeline.rawValue))),
                    ("token", .text(hexadecimal(token, digits: 16))), ("time", .time(time)),
                ]
            case .timelineSwitch(let lsn, let previous, let timeline, let token, let time):
                return [
                    ("switch", .text(lsn.description)), ("previous_timeline", .number(Int64(previous.rawValue))),
                    ("new_timeline", .number(Int64(timeline.rawValue))), ("token", .text(token.description)),
                    ("time", .time(time)),
                ]
            case .endOfRecovery(let lsn, let time):
                return [("recovered_to", .text(lsn.description)), ("time", .time(time))]
            }
        } catch {
            return [("error", .text(error.diagnosis.why ?? error.diagnosis.what))]
        }
    }

    private var commitDetails: [(String, Value)] {
        guard record.flags.contains(.commit) else { return [] }
        let body = record.body
        guard body.count >= CommitFormat.trailerBytes else { return [("error", .text("its last part is cut"))] }
        return [
            ("first_transaction", .count(body.loadUnaligned(fromByteOffset: 0, as: UInt64.self))),
            ("last_transaction", .count(body.loadUnaligned(fromByteOffset: 8, as: UInt64.self))),
            ("time", .time(body.loadUnaligned(fromByteOffset: 16, as: Int64.self))),
            ("payload_bytes", .count(body.loadUnaligned(fromByteOffset: 24, as: UInt64.self))),
        ]
    }
}

/// The inside of a JSON string.
private func jsonEscaped(_ text: String) -> String {
    var out = ""
    for scalar in text.unicodeScalars {
        switch scalar {
        case "\"", "\\": out += "\\" + String(scalar)
        case _ where scalar.value < 0x20: out += "\\u" + hexadecimal(UInt64(scalar.value), digits: 4)
        default: out.unicodeScalars.append(scalar)
        }
    }
    return out
}
