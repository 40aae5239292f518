import HoldfastCore

extension FrameIndex {
    /// Proves that the index describes whole archives, so that its readers need no further checks:
    /// frames lie behind one another from 0 in each archive and in its tar stream, none is larger than
    /// it may be, the page frames of each page file cover it once from its first page to its last,
    /// member paths are safe and occur once, and a page file is called what its pages demand.
    func check() throws(ArchiveError) {
        func damaged(_ why: String) -> ArchiveError { .damaged(object: Self.objectName, why: why) }
        guard !archives.isEmpty, !frames.isEmpty else { throw damaged("it lists no archive") }
        guard archives.count <= 1 << 20 else { throw damaged("\(archives.count) archives") }

        var paths: Set<String> = []
        var memberBytes: UInt64 = 0
        var archive = 1
        for member in members {
            if let why = MemberName.refusal(member.path.utf8) { throw .badMember(name: member.path, why: why) }
            guard paths.insert(member.path).inserted else {
                throw .badMember(name: member.path, why: "it occurs twice")
            }
            guard member.archive >= archive, member.archive <= archives.count else {
                throw .badMember(name: member.path, why: "it is out of order")
            }
            archive = member.archive
            switch member.kind {
            case .directory:
                guard member.bytes == 0 else { throw .badMember(name: member.path, why: "a directory with content") }
            case .smallFile:
                guard member.bytes <= Self.largestMemberBytes else {
                    throw .badMember(name: member.path, why: "\(member.bytes) bytes, too large to be a small file")
                }
                memberBytes += member.bytes
            case .pageFile:
                guard let index = Self.pageFileIndex(member.path) else {
                    throw .badMember(name: member.path, why: "not the name of a page file")
                }
                guard member.bytes <= UInt64(PageNumber.pagesPerFile) * UInt64(Page.bytes),
                    member.bytes % UInt64(Page.bytes) == 0, index < 1 << 15
                else { throw .badMember(name: member.path, why: "\(member.bytes) bytes cannot be a page file") }
            }
        }
        guard memberBytes <= Self.largestMemberBytes else { throw damaged("small files of \(memberBytes) bytes") }

        var cover = PageCover(members)
        var position = (archive: 0, offset: UInt64(0), stream: UInt64(0))
        var memberFrameBytes: UInt64 = 0
        for (number, frame) in frames.enumerated() {
            if frame.archive == position.archive + 1 {
                try end(of: position)
                position = (frame.archive, 0, 0)
                guard frame.kind == .members else { throw damaged("archive \(frame.archive) has no global header") }
            }
            guard frame.archive == position.archive, frame.archive <= archives.count,
                frame.offset == position.offset, frame.streamOffset == position.stream
            else { throw damaged("frame \(number) does not follow the one before") }
            guard frame.bytes > 0, frame.bytes <= Self.largestFrameBytes, frame.compressedBytes > 0,
                frame.compressedBytes <= Codec.compressedBound(frame.bytes)
            else { throw damaged("frame \(number) has impossible sizes") }
            if frame.kind == .pages {
                guard cover.accepts(frame) else {
                    throw damaged("frame \(number) does not hold the pages that are due")
                }
            } else {
                guard frame.member == 0, frame.firstPage.rawValue == 0, frame.headerBytes == 0 else {
                    throw damaged("frame \(number) is of two kinds")
                }
                memberFrameBytes += UInt64(frame.bytes)
            }
            position.offset += UInt64(frame.compressedBytes)
            position.stream += UInt64(frame.bytes)
        }
        try end(of: position)
        guard position.archive == archives.count else { throw damaged("archives without frames") }
        guard cover.isComplete else { throw damaged("pages are missing at the end") }
        // Content, and at most a few blocks of headers for each archive and member.
        let most = memberBytes + UInt64(archives.count + members.count + 1) * 8192
        guard memberFrameBytes <= most else { throw damaged("member frames of \(memberFrameBytes) bytes") }

        func end(of position: (archive: Int, offset: UInt64, stream: UInt64)) throws(ArchiveError) {
            guard position.archive > 0 else { return }
            let archive = archives[position.archive - 1]
            guard archive.streamBytes == position.stream, archive.bytes >= position.offset else {
                throw damaged("archive \(position.archive) is not of the size of its frames")
            }
            let table = codec == .zstd ? UInt64(frameCount(of: position.archive) * 8 + 17) : 0
            guard archive.bytes - position.offset == table else {
                throw damaged(
                    "archive \(position.archive) has \(archive.bytes - position.offset) bytes behind its frames")
            }
        }
    }

    /// The frames of an archive lie together: found by halving.
    package func frameRange(of archive: Int) -> Range<Int> {
        func firstNotBelow(_ number: Int) -> Int {
            var low = 0, high = frames.count
            while low < high {
                let middle = (low + high) / 2
                if frames[middle].archive < number { low = middle + 1 } else { high = middle }
            }
            return low
        }
        return firstNotBelow(archive)..<firstNotBelow(archive + 1)
    }

    private func frameCount(of archive: Int) -> Int { frameRange(of: archive).count }

    /// The number in `pages/00000007`; `nil` for any other spelling.
    package static func pageFileIndex(_ path: String) -> Int? {
        guard path.hasPrefix("pages/"), let index = Int(path.dropFirst(6)), index >= 0, index < 1 << 15,
            PageNumber.filePath(index) == path
        else { return nil }
        return index
    }
}

/// Which page is due next, as the frames go by.
private struct PageCover {
    private let members: [FrameIndex.Member]
    /// The page file that is being covered, and how far.
    private var member: Int
    private var covered: UInt64 = 0
    private var hasHeader = false

    init(_ members: [FrameIndex.Member]) {
        self.members = members
        member = members.firstIndex { $0.kind == .pageFile } ?? members.count
    }

    mutating func accepts(_ frame: FrameIndex.Frame) -> Bool {
        advance()
        guard member < members.count, frame.member == member, frame.archive == members[member].archive,
            let index = FrameIndex.pageFileIndex(members[member].path)
        else { return false }
        let pageBytes = frame.bytes - frame.headerBytes
        let first = UInt64(index) * UInt64(PageNumber.pagesPerFile) + covered / UInt64(Page.bytes)
        guard pageBytes >= 0, pageBytes % Page.bytes == 0, pageBytes <= FrameIndex.pageBytesInFrame,
            UInt64(frame.firstPage.rawValue) == first, covered + UInt64(pageBytes) <= members[member].bytes,
            pageBytes > 0 || members[member].bytes == 0,
            hasHeader
                ? frame.headerBytes == 0
                : frame.headerBytes >= TarWriter.blockBytes && frame.headerBytes % TarWriter.blockBytes == 0
        else { return false }
        hasHeader = true
        covered += UInt64(pageBytes)
        return true
    }

    var isComplete: Bool {
        mutating get {
            advance()
            return member == members.count
        }
    }

    /// Steps to the next page file once this one is whole.
    private mutating func advance() {
        guard member < members.count, hasHeader, covered == members[member].bytes else { return }
        repeat { member += 1 } while member < members.count && members[member].kind != .pageFile
        covered = 0
        hasHeader = false
    }
}
