import HoldfastCore
import HoldfastEngine
import HoldfastWire

/// The commands that backups and operators need. They may take minutes, and run on a pool of their own.
struct PhysicalCommands {
    let engine: Engine
    let composition: any ServerComposition
    let backup: BackupSession
    let slots: SlotCommands
    let digests: DigestSession

    /// Bytes that one `BACKUP READ` may ask for.
    static let readBytes = 1 << 20

    func run(_ specification: CommandSpecification, _ arguments: [[UInt8]], _ out: ReplyWriter) {
        let mark = out.count
        do {
            try answer(specification, arguments.map { String(decoding: $0, as: UTF8.self) }, out)
        } catch {
            out.truncate(to: mark)
            out.error(ErrorReplies.text(error))
        }
    }

    private func answer(_ specification: CommandSpecification, _ words: [String], _ out: ReplyWriter) throws {
        switch (specification.command, words.count > 1 ? words[1].uppercased() : "") {
        case (.backup, "START") where words.count == 3 || words.count == 4: try start(words, out)
        case (.backup, "FILES") where words.count == 2: try files(out)
        case (.backup, "READ") where words.count == 5: try read(words, out)
        case (.backup, "STOP") where words.count == 2: try stop(out)
        case (.wal, "SWITCH") where words.count == 2:
            let end = try engine.switchWAL()
            let segment = SegmentName(timeline: engine.status.timeline, segment: Self.segment(endingAt: end))
            write([("lsn", .simple(end.description)), ("segment", .simple(segment.description))], out)
        case (.checkpoint, _):
            try engine.checkpoint()
            let status = engine.status
            write(
                [("redo_lsn", .simple(status.redoPoint.description)), ("lsn", .simple(status.durableLSN.description))],
                out)
        case (.restorepoint, _):
            guard ObjectName.isValid(words[1]) else {
                return out.error(ErrorCode.reply(ObjectName.refusal(words[1], of: "restore point")))
            }
            let end = try engine.restorePoint(words[1])
            write(
                [
                    ("name", .simple(words[1])), ("lsn", .simple(end.description)),
                    ("time", .simple(Timestamp.text(microseconds: systemClockMicroseconds()))),
                ], out)
        case (.promote, _): try promote(words.dropFirst(), out)
        case (.check, _): try check(out)
        case (.slot, _): try slots.run(words, out)
        case (.digest, _): try digests.run(words, while: { backup.isConnected }, out)
        case (_, let word):
            out.error(
                "ERR unknown subcommand or wrong number of arguments for '\(printable(word))'. "
                    + "Try START label [FAST], FILES, READ path offset length, STOP for BACKUP; SWITCH for WAL.")
        }
    }

    /// `PROMOTE [WITHOUTREPOSITORY] [FORCE]`.
    private func promote(_ words: ArraySlice<String>, _ out: ReplyWriter) throws {
        var options = PromotionOptions()
        for word in words {
            switch word.uppercased() {
            case "WITHOUTREPOSITORY": options.withoutRepository = true
            case "FORCE": options.isForced = true
            default: return out.error(Replies.syntax)
            }
        }
        write(try composition.promote(options), out)
    }

    /// The pages of a snapshot of now; over when its connection is.
    private func check(_ out: ReplyWriter) throws {
        let result = try engine.check(while: { backup.isConnected })
        write(
            [
                ("ok", .boolean(result.problems.isEmpty)), ("lsn", .simple(result.lsn.description)),
                ("pages", .integer(Int64(clamping: result.pages))),
                (
                    "problems",
                    .array(
                        result.problems.map {
                            .map([
                                WirePair(key: .simple("object"), value: .simple($0.object)),
                                WirePair(key: .simple("problem"), value: .simple($0.problem)),
                            ])
                        })
                ), ("unlisted", .integer(Int64(clamping: result.unlisted))),
            ], out)
    }

    private func start(_ words: [String], _ out: ReplyWriter) throws {
        guard words.count == 3 || words[3].uppercased() == "FAST" else { return out.error(Replies.syntax) }
        guard ObjectName.isValid(words[2]) else {
            return out.error(ErrorCode.reply(ObjectName.refusal(words[2], of: "label")))
        }
        let start = try backup.start(label: words[2], fast: words.count == 4)
        let segment = SegmentName(timeline: start.timeline, segment: SegmentNumber(containing: start.startLSN))
        write(
            [
                ("backup", .integer(Int64(clamping: start.token.rawValue))),
                ("start_lsn", .simple(start.startLSN.description)),
                ("timeline", .integer(Int64(start.timeline.rawValue))),
                ("token", .simple(start.timelineToken.description)),
                ("system_identifier", .simple(start.systemIdentifier.description)),
                ("checkpoint_lsn", .simple(start.checkpointLSN.description)),
                ("started_at", .simple(Timestamp.text(microseconds: start.startTime))),
                ("first_segment", .simple(segment.description)), ("page_bytes", .integer(Int64(Page.bytes))),
            ], out)
    }

    private func files(_ out: ReplyWriter) throws {
        let files = try engine.backupFiles(backup.current().token)
        out.array(files.count)
        for file in files {
            write([("path", .simple(file.path)), ("bytes", .integer(Int64(file.bytes)))], out)
        }
    }

    /// Whole pages of a file of this backup, each as it was written last.
    private func read(_ words: [String], _ out: ReplyWriter) throws {
        let files = try engine.backupFiles(backup.current().token)
        guard let file = files.first(where: { $0.path == words[2] }),
            let index = files.indices.first(where: { PageNumber.filePath($0) == file.path })
        else { throw BackupSessionError.notAFile(words[2]) }
        guard let offset = Int(words[3]), let length = Int(words[4]), offset >= 0, length > 0,
            length <= Self.readBytes, offset.isMultiple(of: Page.bytes), length.isMultiple(of: Page.bytes)
        else {
            throw BackupSessionError.badRange(
                "offset and length are whole pages of \(Page.bytes) bytes, and at most \(Self.readBytes) at once")
        }
        guard UInt64(offset) + UInt64(length) <= file.bytes else {
            throw BackupSessionError.badRange("the file has \(file.bytes) bytes in this backup")
        }
        let first = UInt32(index) * PageNumber.pagesPerFile + UInt32(offset / Page.bytes)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: length, alignment: Page.bytes)
        defer { buffer.deallocate() }
        try engine.readPages(from: PageNumber(first), count: length / Page.bytes, into: buffer)
        out.bulk(UnsafeRawBufferPointer(buffer))
    }

    private func stop(_ out: ReplyWriter) throws {
        // What was committed before the stop began lies below the stop LSN.
        let transaction = engine.status.lastTransaction
        let stop = try backup.stop()
        let last = SegmentName(timeline: stop.timeline, segment: Self.segment(endingAt: stop.stopLSN))
        var fields: [(name: String, value: WireValue)] = [
            ("stop_lsn", .simple(stop.stopLSN.description)),
            ("stopped_at", .simple(Timestamp.text(microseconds: stop.stopTime))),
            ("last_segment", .simple(last.description)),
            ("transaction", .integer(Int64(clamping: transaction.rawValue))),
            ("label", .bulk(stop.label)),
        ]
        // A follower's backup has no record at its end: this is the CRC of the one that ends there.
        if let chain = stop.stopChain { fields.append(("stop_crc", .integer(Int64(chain)))) }
        write(fields, out)
    }

    /// The segment that holds the byte before `end`.
    static func segment(endingAt end: LSN) -> SegmentNumber {
        SegmentNumber(containing: LSN(end.rawValue == 0 ? 0 : end.rawValue - 1))
    }

    private func write(_ fields: [(name: String, value: WireValue)], _ out: ReplyWriter) { out.fields(fields) }
}

extension ReplyWriter {
    /// A map of named values; strings go as bulk strings.
    func fields(_ fields: [(name: String, value: WireValue)]) {
        map(fields.count)
        for (name, value) in fields {
            bulk(name)
            self.value(value)
        }
    }

    func value(_ value: WireValue) {
        switch value {
        case .null: null()
        case .simple(let text), .bigNumber(let text): bulk(text)
        case .error(let text): error(text)
        case .integer(let number): integer(number)
        case .bulk(let bytes): bulk(bytes)
        case .boolean(let flag): boolean(flag)
        case .double(let number): bulk("\(number)")
        case .array(let values), .push(let values):
            array(values.count)
            values.forEach { self.value($0) }
        case .set(let values):
            set(values.count)
            values.forEach { self.value($0) }
        case .map(let pairs):
            map(pairs.count)
            for pair in pairs {
                self.value(pair.key)
                self.value(pair.value)
            }
        }
    }
}
