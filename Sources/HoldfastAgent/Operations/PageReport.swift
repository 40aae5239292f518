import HoldfastCore
import HoldfastEngine

/// `holdfast page dump`: the fields of one page, as they lie in the page file. Nothing is locked, and nothing written.
package enum PageReport {
    private typealias Fields = [(key: String, value: JSONValue)]

    /// The report's status is `dataError` when the page is damaged.
    /// - Throws: `notADataDirectory`, `noSuchPage`.
    package static func run(_ path: String, page number: UInt32) throws -> Report {
        let page = try PageDump.read(PageNumber(number), of: RealDisk(root: WorkingDirectory.absolute(path)))
        let file = PageNumber.filePath(page.place.fileIndex)
        var fields: Fields = [
            (key: "page", value: integer(page.place.rawValue)), (key: "path", value: .string(file)),
            (key: "offset", value: .integer(Int64(clamping: page.place.fileOffset))),
        ]
        if case .zeros = page.content {
            fields.append((key: "kind", value: "never written"))
        } else {
            fields += header(page)
        }
        let (own, entries) = content(page.content)
        fields += own
        let problems = page.faults
        var text = table(fields)
        if let entries { text += entries.text }
        text += problems.map { "problem: \(terminalSafe($0))\n" }.joined()
        var json = fields
        if let entries { json.append((key: entries.key, value: .array(entries.json))) }
        json.append((key: "ok", value: .boolean(problems.isEmpty)))
        let object = JSONValue.string("page \(page.place)")
        json.append(
            (key: "problems", value: .array(problems.map { ["object": object, "problem": .string($0)] })))
        return Report(text: text, json: .object(json), status: problems.isEmpty ? .done : .dataError)
    }

    private static func header(_ page: PageDump) -> Fields {
        [
            (key: "checksum", value: .string(hexadecimal(UInt64(page.storedChecksum), digits: 8))),
            (key: "computed_checksum", value: .string(hexadecimal(UInt64(page.computedChecksum), digits: 8))),
            (key: "checksum_ok", value: .boolean(page.isChecksumSound)),
            (key: "number", value: integer(page.number.rawValue)), (key: "lsn", value: .init(page.lsn)),
            (key: "kind", value: .string(word(page.kind, page.rawKind))), (key: "level", value: JSONValue(page.level)),
            (key: "flags", value: integer(UInt32(page.flags))), (key: "lower", value: JSONValue(page.lower)),
            (key: "upper", value: JSONValue(page.upper)),
        ]
    }

    /// What a page lists, as a table and as JSON.
    private struct Listing {
        var key: String
        var text: String
        var json: [JSONValue]
    }

    private static func content(_ content: PageDump.Content) -> (fields: Fields, listing: Listing?) {
        switch content {
        case .zeros, .none: return ([], nil)
        case .meta(let pageCount, let freeHead, let freePages, let nextTreeID):
            return (
                [
                    (key: "page_count", value: integer(pageCount)), (key: "free_head", value: reference(freeHead)),
                    (key: "free_pages", value: integer(freePages)),
                    (key: "next_tree_id", value: .integer(Int64(clamping: nextTreeID))),
                ], nil
            )
        case .overflow(let next, let bytes):
            return ([(key: "next", value: reference(next)), (key: "value_bytes", value: JSONValue(bytes))], nil)
        case .freeList(let next, let free):
            let pages = free.map { integer($0.rawValue) }
            return (
                [(key: "next", value: reference(next)), (key: "count", value: JSONValue(free.count))],
                Listing(key: "free", text: free.map { "\($0)\n" }.joined(), json: pages)
            )
        case .node(let node, let entries):
            var fields: Fields = [
                (key: "entries_count", value: JSONValue(node.count)),
                (key: "prefix", value: .string(RecordText.text(of: node.prefix))),
                (key: "dead_bytes", value: JSONValue(node.deadBytes)),
            ]
            if node.level == 0 {
                fields += [
                    (key: "previous", value: reference(node.previous)), (key: "next", value: reference(node.next)),
                    (key: "may_overflow", value: .boolean(node.mayOverflow)),
                ]
            } else {
                fields.append((key: "first_child", value: reference(node.firstChild)))
            }
            return (fields, listing(entries))
        }
    }

    private static func listing(_ entries: [PageDump.Entry]) -> Listing {
        var table = TextTable([("SLOT", .right), ("CELL", .right), ("VALUE", .left), ("KEY", .left)])
        var json: [JSONValue] = []
        for entry in entries {
            let key = RecordText.text(of: entry.key)
            var fields: Fields = [
                (key: "slot", value: JSONValue(entry.slot)), (key: "cell_offset", value: JSONValue(entry.cellOffset)),
                (key: "key", value: .string(key)),
            ]
            let value: String
            switch entry.value {
            case .inline(let bytes):
                value = "\(bytes) bytes"
                fields.append((key: "value_bytes", value: JSONValue(bytes)))
            case .overflow(let bytes, let first):
                value = "\(bytes) bytes from page \(first)"
                fields.append((key: "value_bytes", value: JSONValue(bytes)))
                fields.append((key: "overflow_page", value: integer(first.rawValue)))
            case .child(let page):
                value = "page \(page)"
                fields.append((key: "child", value: integer(page.rawValue)))
            }
            table.add([String(entry.slot), String(entry.cellOffset), value, key])
            json.append(.object(fields))
        }
        return Listing(key: "entries", text: table.isEmpty ? "" : table.text, json: json)
    }

    private static func table(_ fields: Fields) -> String {
        let width = fields.map(\.key.count).max() ?? 0
        return fields.filter { $0.value != .null }.map { field in
            let text = if case .string(let text) = field.value { terminalSafe(text) } else { field.value.text() }
            return field.key + String(repeating: " ", count: width - field.key.count + 2) + text + "\n"
        }.joined()
    }

    private static func integer(_ value: UInt32) -> JSONValue { .integer(Int64(value)) }
    /// 0 means none.
    private static func reference(_ page: PageNumber) -> JSONValue {
        page.rawValue == 0 ? .null : integer(page.rawValue)
    }

    private static func word(_ kind: PageKind?, _ raw: UInt8) -> String {
        switch kind {
        case .meta: "meta"
        case .leaf: "leaf"
        case .branch: "branch"
        case .overflow: "overflow"
        case .freeList: "free list"
        case .free: "free"
        case nil: "unknown (\(raw))"
        }
    }
}
