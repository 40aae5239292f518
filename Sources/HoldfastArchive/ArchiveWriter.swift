import CShims
import Glibc
import HoldfastCore

/// Packs a backup: page files first, by several threads, then the small files that are known only when
/// the pages are done (`backup_label` carries the stop LSN).
///
/// Each worker claims the next frame, reads its pages, proves every one of them, and compresses; whoever
/// finds the frame that is due ready writes it, outside the lock, and goes on with the next due while
/// there is one. Six output buffers in all bound the memory, whatever the size of the backup; the books
/// (`frames.idx`, `pages.crc`) grow by 4 bytes a page and about 52 a MiB.
///
///     let writer = try ArchiveWriter(tag: tag, options: options, pageFiles: files, source: source, sink: sink)
///     try writer.writePages()
///     let result = try writer.finish([controlFile, label])
///
/// What was written is of use only once `finish` has returned; after a throw the caller discards it.
package final class ArchiveWriter {
    private struct Flow {
        var plan: FramePlan
        var claimed = 0
        var written = 0
        var ready: [Int: MadeFrame] = [:]
        var isWriting = false
        var free: [AlignedBuffer]
        var failure: (any Error)?
        /// When the next read may begin, by the monotonic clock.
        var nextRead = 0.0
    }
    private static let buffers = 6

    private let options: ArchiveOptions
    private let archiveCount: Int
    private let source: any PageSource
    private let assembler: ArchiveAssembler
    private let flow: Monitor<Flow>
    private var phase = Phase.pages
    private enum Phase { case pages, members, done, failed }

    /// Checks names, sizes and options; nothing is written yet.
    package init(
        tag: ArchiveTag, options: ArchiveOptions, pageFiles: [PageFileMember], source: any PageSource,
        sink: any ArchiveSink
    ) throws(ArchiveError) {
        guard (1...64).contains(options.workers) else { throw .invalid("\(options.workers) workers") }
        if let rate = options.maxRateBytesPerSecond, rate == 0 { throw .invalid("a rate of 0 bytes a second") }
        if let refusal = options.compression.refusal { throw .invalid(refusal) }
        let plan = try FramePlan(pageFiles, tag: tag, options: options)
        self.options = options
        self.source = source
        archiveCount = plan.archiveCount
        assembler = ArchiveAssembler(plan, tag: tag, options: options, sink: sink)
        let count = Codec.compressedBound(FrameIndex.largestFrameBytes)
        flow = Monitor(Flow(plan: plan, free: (0..<Self.buffers).map { _ in AlignedBuffer(count) }))
    }

    /// Reads, packs and writes all pages. Blocks the calling thread.
    package func writePages() throws {
        precondition(phase == .pages, "pages are written once")
        phase = .failed
        let (flow, assembler, options, source) = (self.flow, self.assembler, self.options, self.source)
        try WorkerThreads.run(options.workers) {
            if options.isPolite { hf_lower_priority() }
            do {
                let maker = try FrameMaker(source, options.compression) { Self.mustStop(flow, options) }
                while let (number, job, buffer) = Self.claim(flow, options) {
                    let made = try maker.make(job, into: buffer)
                    var due = flow.withLock { flow in
                        flow.ready[number] = made
                        return Self.takeDue(&flow)
                    }
                    while let frame = due {
                        try assembler.write(frame)
                        due = flow.withLock { flow in
                            flow.written += 1
                            flow.free.append(frame.buffer)
                            flow.isWriting = false
                            return Self.takeDue(&flow)
                        }
                    }
                }
            } catch {
                flow.withLock { if $0.failure == nil { $0.failure = error } }
            }
        }
        try flow.withLock { flow in
            if let failure = flow.failure { throw failure }
            precondition(flow.written == flow.claimed && flow.ready.isEmpty, "a frame was left out")
        }
        phase = .members
    }

    /// Writes the small files and ends the last archive.
    package func finish(_ members: [SmallMember]) throws -> ArchiveResult {
        precondition(phase == .members, "pages come before the small files")
        phase = .failed
        var stream: [UInt8] = []
        var paths = Set(assembler.index.members.map(\.path))
        for member in members {
            guard paths.insert(member.path).inserted else {
                throw ArchiveError.badMember(name: member.path, why: "it occurs twice")
            }
            let size = UInt64(member.bytes.count)
            stream += try TarWriter.header(path: member.path, kind: .file, size: size, modified: member.modified)
            stream += member.bytes
            stream += [UInt8](repeating: 0, count: TarWriter.padding(after: size))
            guard UInt64(stream.count) <= FrameIndex.largestMemberBytes else {
                throw ArchiveError.invalid("small files of more than \(FrameIndex.largestMemberBytes) bytes in all")
            }
            assembler.addMember(member, archive: archiveCount)
        }
        stream += [UInt8](repeating: 0, count: TarWriter.endOfArchiveBytes)
        let maker = try FrameMaker(source, options.compression) { false }
        let buffer = AlignedBuffer(Codec.compressedBound(FrameIndex.largestFrameBytes))
        for start in stride(from: 0, to: stream.count, by: FrameIndex.pageBytesInFrame) {
            if options.cancellation?.isCancelled == true { throw ArchiveError.cancelled }
            let end = min(stream.count, start + FrameIndex.pageBytesInFrame)
            let job = FramePlan.Job(
                archive: archiveCount, kind: .members, header: Array(stream[start..<end]), member: 0, file: 0,
                fileOffset: 0, pageBytes: 0, firstPage: PageNumber(0), isFirst: false, isLast: end == stream.count)
            try assembler.write(try maker.make(job, into: buffer))
        }
        let index = assembler.index
        // The readers' own check: what we could not restore is not called a backup.
        try index.check()
        phase = .done
        return ArchiveResult(
            index: index, checksums: assembler.checksums, archives: index.archives,
            files: index.members.compactMap {
                $0.kind == .directory
                    ? nil : BackupManifest.File(path: $0.path, bytes: $0.bytes, modified: $0.modified, crc: $0.crc)
            })
    }

    private static func mustStop(_ flow: Monitor<Flow>, _ options: ArchiveOptions) -> Bool {
        options.cancellation?.isCancelled == true || flow.withLock { $0.failure != nil }
    }

    /// The next frame with a buffer for it, when the rate allows its read; `nil` when there is no more
    /// to do or somebody failed. Frame and buffer are claimed together, in order: so the frame that is
    /// due always has one, and the writer never waits for itself.
    private static func claim(
        _ flow: Monitor<Flow>, _ options: ArchiveOptions
    ) -> (Int, FramePlan.Job, AlignedBuffer)? {
        let claim: (work: (Int, FramePlan.Job, AlignedBuffer), start: Double)?? = flow.wait { flow in
            if options.cancellation?.isCancelled == true, flow.failure == nil {
                flow.failure = ArchiveError.cancelled
            }
            if flow.failure != nil { return .some(.none) }
            guard let buffer = flow.free.last else { return nil }
            guard let job = flow.plan.next() else { return .some(.none) }
            flow.free.removeLast()
            defer { flow.claimed += 1 }
            let start = max(monotonicSeconds(), flow.nextRead)
            if let rate = options.maxRateBytesPerSecond {
                flow.nextRead = start + Double(job.pageBytes) / Double(rate)
            }
            return .some(((flow.claimed, job, buffer), start))
        }
        guard let claim, let (work, start) = claim else { return nil }
        while options.maxRateBytesPerSecond != nil {
            let wait = start - monotonicSeconds()
            if wait <= 0 { break }
            if mustStop(flow, options) {
                flow.withLock { if $0.failure == nil { $0.failure = ArchiveError.cancelled } }
                return nil
            }
            usleep(useconds_t(min(wait, 0.05) * 1e6))
        }
        return work
    }

    /// The frame whose turn it is, with the right to write it.
    private static func takeDue(_ flow: inout Flow) -> MadeFrame? {
        guard !flow.isWriting, flow.failure == nil, let frame = flow.ready.removeValue(forKey: flow.written) else {
            return nil
        }
        flow.isWriting = true
        return frame
    }
}
