import Glibc
import HoldfastCore

/// How a backup is unpacked.
package struct RestoreOptions: Sendable {
    /// Threads that fetch, decompress, check and write; from 1 to 64.
    package var workers: Int
    /// Page files that are there already are replaced; else they are an error.
    package var replacesExisting: Bool
    /// Write past the page cache where the file system allows it.
    package var usesDirectIO: Bool
    /// Called after each frame, from one thread at a time.
    package var progress: (@Sendable (ArchiveProgress) -> Void)?
    package var cancellation: CancellationFlag?

    package init(
        workers: Int = 2, replacesExisting: Bool = false, usesDirectIO: Bool = true,
        progress: (@Sendable (ArchiveProgress) -> Void)? = nil, cancellation: CancellationFlag? = nil
    ) {
        self.workers = workers
        self.replacesExisting = replacesExisting
        self.usesDirectIO = usesDirectIO
        self.progress = progress
        self.cancellation = cancellation
    }
}

/// Unpacks a backup by its frame table: workers claim frames, prove them and write their pages straight
/// to their final places. Nothing beyond what the table promises is read, made or written.
package final class ArchiveReader {
    private struct Flow {
        var next = 0
        var open: [Int: TargetFile] = [:]
        var framesLeft: [Int: Int] = [:]
        var failure: (any Error)?
        var done: ArchiveProgress
    }

    let index: FrameIndex
    let checksums: PageChecksums?
    let source: any ArchiveSource
    private let options: RestoreOptions

    /// `checksums`, when given, must list exactly the pages of `index`.
    package init(
        _ index: FrameIndex, checksums: PageChecksums?, source: any ArchiveSource, options: RestoreOptions = .init()
    ) throws(ArchiveError) {
        guard (1...64).contains(options.workers) else { throw .invalid("\(options.workers) workers") }
        if let checksums {
            var listed = 0
            for frame in index.frames where frame.pageCount > 0 {
                guard let place = checksums.index(of: frame.firstPage),
                    let last = checksums.index(of: PageNumber(frame.firstPage.rawValue + UInt32(frame.pageCount - 1))),
                    last - place == frame.pageCount - 1
                else {
                    throw .damaged(
                        object: PageChecksums.objectName, why: "it lacks pages from \(frame.firstPage) of this backup")
                }
                listed += frame.pageCount
            }
            guard listed == checksums.count else {
                throw .damaged(object: PageChecksums.objectName, why: "it lists pages that this backup does not hold")
            }
        }
        self.index = index
        self.checksums = checksums
        self.source = source
        self.options = options
    }

    /// Writes all page files below `root`, an existing directory, and makes them and their directories
    /// durable; gives back the small files, which the caller writes when it is their time.
    package func restore(into root: String) throws -> [SmallMember] {
        let directory = open(root, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        guard directory >= 0 else { throw TargetFile.failure("open", root) }
        defer { close(directory) }
        return try restore(into: directory)
    }

    /// The same below an open directory, which stays the caller's.
    package func restore(into directory: Int32) throws -> [SmallMember] {
        let members = try smallMembers()
        for archive in index.archives { try FrameDecoder(index, nil, source).checkTail(of: archive.number) }
        for member in index.members {
            switch member.kind {
            case .directory: try TargetFile.createDirectory(member.path, below: directory)
            case .pageFile: try TargetFile.createDirectory(directoryPart(member.path), below: directory)
            case .smallFile: break
            }
        }
        try run(target: directory)
        var parents: Set<String> = [""]
        for member in index.members where member.kind != .smallFile {
            var path = member.kind == .directory ? member.path : directoryPart(member.path)
            while !path.isEmpty {
                parents.insert(path)
                path = directoryPart(path)
            }
        }
        // Children before parents.
        for path in parents.sorted(by: >) { try TargetFile.syncDirectory(path, below: directory) }
        return members
    }

    /// Reads and proves everything, writes nothing.
    package func verify() throws {
        _ = try smallMembers()
        for archive in index.archives { try FrameDecoder(index, nil, source).checkTail(of: archive.number) }
        try run(target: nil)
    }

    /// The small files of the backup, in order. Checks the tar structure of all archives around the pages.
    package func smallMembers() throws -> [SmallMember] {
        let decoder = try FrameDecoder(index, nil, source)
        var found: [SmallMember] = []
        var expected = index.members[...].filter { $0.kind != .pageFile }[...]
        for archive in index.archives {
            var stream: [UInt8] = []
            for frame in index.frames[index.frameRange(of: archive.number)] where frame.kind == .members {
                stream += try decoder.members(frame)
            }
            var tar = TarReader(stream, archive: archive.number)
            while let entry = try tar.next() {
                let content = try tar.content()
                guard let member = expected.popFirst(), member.path == entry.path, member.archive == archive.number,
                    member.kind == (entry.kind == .directory ? .directory : .smallFile),
                    member.bytes == entry.size, member.crc == CRC32C.of(Array(content))
                else { throw ArchiveError.badMember(name: entry.path, why: "it is not what is listed at its place") }
                if entry.kind == .file {
                    found.append(SmallMember(path: entry.path, bytes: Array(content), modified: entry.modified))
                }
            }
            try checkGlobals(tar.globals, of: archive.number)
        }
        if let missing = expected.first { throw ArchiveError.badMember(name: missing.path, why: "it is missing") }
        return found
    }

    private func checkGlobals(_ globals: [String: String], of archive: Int) throws(ArchiveError) {
        let vendor = TarWriter.vendor
        if let format = globals[vendor + "format"].flatMap({ UInt32($0) }), format > 1 {
            throw .newerFormat(object: index.archiveName(archive), version: format, supported: 1)
        }
        let tag = index.tag
        guard globals[vendor + "format"] == "1", globals[vendor + "backup_id"] == tag.backupID,
            globals[vendor + "system_identifier"] == tag.systemIdentifier.description,
            globals[vendor + "timeline"] == tag.timeline.description,
            globals[vendor + "start_lsn"] == tag.startLSN.description, globals[vendor + "archive"] == String(archive)
        else {
            throw .damaged(object: index.archiveName(archive), why: "its header names another backup or archive")
        }
    }

    private func run(target: Int32?) throws {
        let (index, checksums, source, options) = (self.index, self.checksums, self.source, self.options)
        var start = Flow(
            done: ArchiveProgress(bytes: 0, totalBytes: index.pageBytes, archiveBytes: 0))
        for frame in index.frames where frame.kind == .pages { start.framesLeft[frame.member, default: 0] += 1 }
        let flow = Monitor(start)
        try WorkerThreads.run(options.workers) {
            do {
                let decoder = try FrameDecoder(index, checksums, source)
                while let (frame, file) = try Self.claim(flow, index, target, options) {
                    let pages = try decoder.pages(frame)
                    try file?.write(pages: pages, at: frame.firstPage.fileOffset, isZero: decoder.isZero)
                    let whole = flow.withLock { flow -> TargetFile? in
                        flow.done.bytes += UInt64(pages.count)
                        flow.done.archiveBytes += UInt64(frame.compressedBytes)
                        options.progress?(flow.done)
                        flow.framesLeft[frame.member]! -= 1  // counted above
                        return flow.framesLeft[frame.member] == 0 ? flow.open.removeValue(forKey: frame.member) : nil
                    }
                    try whole?.sync()
                }
            } catch {
                flow.withLock { if $0.failure == nil { $0.failure = error } }
            }
        }
        try flow.withLock { if let failure = $0.failure { throw failure } }
    }

    /// The next frame of pages and the file they go to, which the first of its frames creates.
    private static func claim(
        _ flow: Monitor<Flow>, _ index: FrameIndex, _ target: Int32?, _ options: RestoreOptions
    ) throws -> (FrameIndex.Frame, TargetFile?)? {
        try flow.withLock { flow in
            guard flow.failure == nil else { return nil }
            if options.cancellation?.isCancelled == true { throw ArchiveError.cancelled }
            while flow.next < index.frames.count, index.frames[flow.next].kind != .pages { flow.next += 1 }
            guard flow.next < index.frames.count else { return nil }
            let frame = index.frames[flow.next]
            flow.next += 1
            guard let target else { return (frame, nil) }
            if let file = flow.open[frame.member] { return (frame, file) }
            let member = index.members[frame.member]
            let file = try TargetFile(
                directory: target, path: member.path, bytes: member.bytes, replacing: options.replacesExisting,
                direct: options.usesDirectIO)
            flow.open[frame.member] = file
            return (frame, file)
        }
    }
}
