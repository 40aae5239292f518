import HoldfastCore

/// Cuts a backup's tar streams into frames, in order: for each archive a members frame with the global
/// header (and, in the first, the directories), then the page files in frames of 1 MiB of pages, the
/// first of each behind the file's tar header, then the end of the archive. Of the last archive only
/// what goes before the small files is planned here; `ArchiveWriter.finish` makes the rest.
struct FramePlan {
    struct Job: Sendable {
        var archive: Int
        var kind: FrameIndex.Frame.Kind
        /// Tar headers before the pages, or the whole of a members frame.
        var header: [UInt8]
        var member: Int
        var file: Int
        /// Of the pages, in their file.
        var fileOffset: UInt64
        var pageBytes: Int
        var firstPage: PageNumber
        /// The archive begins, or ends, with this frame.
        var isFirst: Bool
        var isLast: Bool
    }

    private let files: [PageFileMember]
    private let archiveOfFile: [Int]
    private let opening: [[UInt8]]
    private let headers: [[UInt8]]
    private let firstMember: Int
    let archiveCount: Int
    /// The members table: directories, then page files; CRCs are filled in as the frames are made.
    let members: [FrameIndex.Member]

    private var archive = 0
    private var file = 0
    private var offset: UInt64 = 0
    private var headerIsOut = false
    private var isOpen = false

    init(_ files: [PageFileMember], tag: ArchiveTag, options: ArchiveOptions) throws(ArchiveError) {
        guard ObjectName.isValid(tag.backupID) else { throw .invalid("the backup id is not a name") }
        guard options.directories.count <= 64 else { throw .invalid("\(options.directories.count) directories") }
        var members: [FrameIndex.Member] = []
        var directories: [UInt8] = []
        for path in options.directories {
            directories += try TarWriter.header(path: path, kind: .directory, size: 0, modified: 0)
            members.append(.init(kind: .directory, archive: 1, path: path, bytes: 0, crc: 0, modified: 0))
        }
        firstMember = members.count
        var archives: [Int] = []
        var headers: [[UInt8]] = []
        var number = 1
        var streamBytes: UInt64 = 0
        for (position, file) in files.enumerated() {
            guard file.bytes % UInt64(Page.bytes) == 0,
                file.bytes <= UInt64(PageNumber.pagesPerFile) * UInt64(Page.bytes),
                file.index >= 0, file.index < 1 << 15, position == 0 || files[position - 1].index < file.index
            else { throw .invalid("page file \(file.index) of \(file.bytes) bytes") }
            if streamBytes > 0, streamBytes + file.bytes > options.archiveBytes {
                number += 1
                streamBytes = 0
            }
            streamBytes += file.bytes
            archives.append(number)
            let path = PageNumber.filePath(file.index)
            headers.append(
                try TarWriter.header(path: path, kind: .file, size: file.bytes, modified: file.modified))
            members.append(
                .init(
                    kind: .pageFile, archive: number, path: path, bytes: file.bytes, crc: 0,
                    modified: file.modified))
        }
        self.files = files
        self.members = members
        self.headers = headers
        archiveOfFile = archives
        archiveCount = number
        opening = (1...number).map { TarWriter.globalHeader(tag, archive: $0) + ($0 == 1 ? directories : []) }
    }

    /// The next frame; `nil` when only the end of the last archive is missing.
    mutating func next() -> Job? {
        if archive == 0 || !isOpen {
            guard archive < archiveCount else { return nil }
            archive += 1
            isOpen = true
            return members(opening[archive - 1], isFirst: true, isLast: false)
        }
        guard file < files.count, archiveOfFile[file] == archive else {
            guard archive < archiveCount else {
                isOpen = false
                return nil
            }
            isOpen = false
            return members(
                [UInt8](repeating: 0, count: TarWriter.endOfArchiveBytes), isFirst: false, isLast: true)
        }
        let bytes = Int(min(UInt64(FrameIndex.pageBytesInFrame), files[file].bytes - offset))
        let page = UInt64(files[file].index) * UInt64(PageNumber.pagesPerFile) + offset / UInt64(Page.bytes)
        let job = Job(
            archive: archive, kind: .pages, header: headerIsOut ? [] : headers[file], member: firstMember + file,
            file: files[file].index, fileOffset: offset, pageBytes: bytes,
            firstPage: PageNumber(UInt32(truncatingIfNeeded: page)), isFirst: false, isLast: false)
        offset += UInt64(bytes)
        headerIsOut = true
        if offset == files[file].bytes {
            file += 1
            offset = 0
            headerIsOut = false
        }
        return job
    }

    private func members(_ bytes: [UInt8], isFirst: Bool, isLast: Bool) -> Job {
        Job(
            archive: archive, kind: .members, header: bytes, member: 0, file: 0, fileOffset: 0, pageBytes: 0,
            firstPage: PageNumber(0), isFirst: isFirst, isLast: isLast)
    }
}
