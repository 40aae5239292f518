import HoldfastCore
import HoldfastEngine

/// `holdfast check --data`: every page's checksum and identity, then the structure that the pages make.
///
/// The directory is recovered and closed first, as a server would, so that its pages alone are the whole state; then it
/// is locked while it is looked at.
package enum CheckDirectory {
    package static func run(_ path: String) throws -> Report {
        let path = WorkingDirectory.absolute(path)
        try OfflineEngine.open(path).close()
        let disk = try RealDisk(root: path)
        try disk.lock()
        defer { disk.unlock() }
        var problems: [(object: String, problem: String)] = []
        let pages = try checkPages(disk, &problems)
        let damaged = problems.count
        for problem in try StructureCheck.run(DirectoryPages(disk)) {
            let object = "page \(problem.page)"
            // A damaged page was named already, with the better reason.
            if problems[..<damaged].contains(where: { $0.object == object }) { continue }
            problems.append((object: object, problem: problem.text))
        }
        var text = problems.map { "\($0.object): \(terminalSafe($0.problem))\n" }.joined()
        text +=
            problems.isEmpty
            ? "\(pages) pages checked, all sound\n" : "\(pages) pages checked, \(problems.count) problems\n"
        return Report(
            text: text,
            json: [
                "ok": .boolean(problems.isEmpty),
                "problems": .array(
                    problems.map { ["object": .string($0.object), "problem": .string($0.problem)] }),
                "objects": JSONValue(pages), "bytes": JSONValue(pages * Page.bytes),
            ], status: problems.isEmpty ? .done : .dataError)
    }

    private static let chunkPages = 128

    /// Reads every page file from end to end; returns the number of pages.
    private static func checkPages(
        _ disk: RealDisk, _ problems: inout [(object: String, problem: String)]
    ) throws -> Int {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: chunkPages * Page.bytes, alignment: 4096)
        defer { buffer.deallocate() }
        var pages = 0
        for (index, name) in try disk.list("pages").enumerated() {
            let expected = PageNumber.filePath(index)
            guard "pages/" + name == expected else {
                problems.append(
                    (
                        object: "pages/" + printable(name),
                        problem: "a page file of another name is expected: \(expected)"
                    ))
                continue
            }
            let file = try disk.open(expected, .read)
            defer { file.close() }
            let bytes = Int(try file.size())
            if bytes % Page.bytes != 0 {
                problems.append((object: expected, problem: "its size, \(bytes) bytes, is no whole number of pages"))
            }
            var offset = 0
            while offset + Page.bytes <= bytes {
                let window = UnsafeMutableRawBufferPointer(
                    rebasing: buffer[..<Swift.min(buffer.count, (bytes - offset) / Page.bytes * Page.bytes)])
                let count = try file.read(into: window, at: UInt64(offset))
                for at in stride(from: 0, to: count - Page.bytes + 1, by: Page.bytes) {
                    let number = PageNumber(
                        UInt32(index) * PageNumber.pagesPerFile + UInt32((offset + at) / Page.bytes))
                    if let fault = Page(window.baseAddress! + at).fault(expected: number) {
                        problems.append((object: "page \(number)", problem: "\(fault)"))
                    }
                    pages += 1
                }
                if count < window.count { break }
                offset += count
            }
        }
        return pages
    }
}

/// The pages of a directory that nobody has open, read when they are asked for. Holds the last pages read, many more
/// than any step of a check needs at once. One thread.
final class DirectoryPages: PageReader {
    private let disk: RealDisk
    private var files: [Int: RealFile] = [:]
    private var places: [PageNumber: Int] = [:]
    private var held: [PageNumber?]
    private let memory: UnsafeMutableRawBufferPointer
    private var next = 0
    private static let capacity = 16_384

    init(_ disk: RealDisk) {
        self.disk = disk
        held = Array(repeating: nil, count: Self.capacity)
        memory = .allocate(byteCount: Self.capacity * Page.bytes, alignment: 4096)
    }

    deinit {
        for file in files.values { file.close() }
        memory.deallocate()
    }

    func page(_ n: PageNumber) throws(EngineError) -> UnsafeRawPointer {
        if let place = places[n] { return UnsafeRawPointer(memory.baseAddress! + place * Page.bytes) }
        let place = next
        next = (next + 1) % Self.capacity
        if let old = held[place] { places[old] = nil }
        held[place] = nil
        let window = UnsafeMutableRawBufferPointer(
            rebasing: memory[(place * Page.bytes)..<((place + 1) * Page.bytes)])
        let count: Int
        do throws(DiskError) {
            count = try file(n.fileIndex).read(into: window, at: n.fileOffset)
        } catch {
            throw .disk(error)
        }
        guard count == Page.bytes else { throw .damagedPage(n, "its file ends before it") }
        if let fault = Page(window.baseAddress!).fault(expected: n) { throw .damagedPage(n, "\(fault)") }
        held[place] = n
        places[n] = place
        return UnsafeRawPointer(window.baseAddress!)
    }

    private func file(_ index: Int) throws(DiskError) -> RealFile {
        if let file = files[index] { return file }
        let file = try disk.open(PageNumber.filePath(index), .read)
        files[index] = file
        return file
    }
}
