import HoldfastCore

/// `frames.idx`: the frame table of a backup. It says what every byte of every archive is, so that any
/// page range can be read by itself, and nothing beyond what it promises is ever read or made.
///
///     bytes  field, little-endian
///         8  "HFFRAMES"
///         4  version: 1
///         4  codec (`Codec`)
///         8  system identifier
///         8  start LSN
///         4  timeline
///         2  length of the backup id, then the id
///         4  number of archives, then for each:
///                8  bytes as stored    8  bytes of its tar stream    32  SHA-256 as stored
///         4  number of members, in archive order, then for each:
///                1  kind: 0 page file, 1 small file, 2 directory
///                4  archive number     8  size     4  CRC32C     8  modified, seconds
///                2  length of the path, then the path
///         8  number of frames, then for each 52 bytes:
///                4  archive number, from 1
///                4  kind: 0 members, 1 pages
///                8  offset in the archive
///                4  compressed bytes
///                4  uncompressed bytes
///                8  offset in the archive's tar stream
///                4  CRC32C of the compressed bytes
///                4  CRC32C of the uncompressed bytes
///                4  pages: index of the member they belong to
///                4  pages: number of the first page
///                4  pages: bytes of tar header before the first page
///         4  CRC32C of all before
///
/// A *members* frame holds tar headers, small files and the end of an archive; the members frames of an
/// archive make one tar stream when page files are left out. A *pages* frame holds whole pages of one
/// page file, behind its tar header when they are its first. Kind 2 is kept for frames of an
/// incremental backup's page lists.
package struct FrameIndex: Sendable, Equatable {
    package static let objectName = "frames.idx"
    static let magic = "HFFRAMES"
    static let version: UInt32 = 1

    /// Page bytes in a frame, at most: 1 MiB.
    package static let pageBytesInFrame = 1 << 20
    /// Any frame's uncompressed bytes, at most: pages behind a tar header with a pax header.
    package static let largestFrameBytes = pageBytesInFrame + (64 << 10)
    /// All small files of a backup together, at most.
    package static let largestMemberBytes: UInt64 = 64 << 20

    package struct Frame: Sendable, Equatable {
        package enum Kind: UInt32, Sendable {
            case members = 0
            case pages = 1
        }
        package var archive: Int
        package var kind: Kind
        package var offset: UInt64
        package var compressedBytes: Int
        package var bytes: Int
        package var streamOffset: UInt64
        package var compressedCRC: UInt32
        package var crc: UInt32
        package var member: Int
        package var firstPage: PageNumber
        package var headerBytes: Int

        package var pageCount: Int { kind == .pages ? (bytes - headerBytes) / Page.bytes : 0 }
    }

    package struct Member: Sendable, Equatable {
        package enum Kind: UInt8, Sendable {
            case pageFile = 0
            case smallFile = 1
            case directory = 2
        }
        package var kind: Kind
        package var archive: Int
        package var path: String
        package var bytes: UInt64
        package var crc: UInt32
        package var modified: Int64
    }

    package var tag: ArchiveTag
    package var codec: Codec
    package var archives: [FinishedArchive] = []
    package var members: [Member] = []
    package var frames: [Frame] = []

    init(tag: ArchiveTag, codec: Codec) {
        self.tag = tag
        self.codec = codec
    }

    /// Page bytes of the whole backup.
    package var pageBytes: UInt64 { members.reduce(0) { $0 + ($1.kind == .pageFile ? $1.bytes : 0) } }

    package func archiveName(_ number: Int) -> String { tag.archiveName(number, codec: codec) }

    package func encoded() -> [UInt8] {
        var writer = ByteWriter(reserving: 128 + archives.count * 48 + members.count * 64 + frames.count * 52)
        writer.append(Array(Self.magic.utf8))
        writer.append(Self.version)
        writer.append(codec.rawValue)
        writer.append(tag.systemIdentifier.rawValue)
        writer.append(tag.startLSN.rawValue)
        writer.append(tag.timeline.rawValue)
        writer.append(text: tag.backupID)
        writer.append(UInt32(archives.count))
        for archive in archives {
            writer.append(archive.bytes)
            writer.append(archive.streamBytes)
            writer.append(archive.sha256)
        }
        writer.append(UInt32(members.count))
        for member in members {
            writer.append(member.kind.rawValue)
            writer.append(UInt32(member.archive))
            writer.append(member.bytes)
            writer.append(member.crc)
            writer.append(member.modified)
            writer.append(text: member.path)
        }
        writer.append(UInt64(frames.count))
        for frame in frames {
            writer.append(UInt32(frame.archive))
            writer.append(frame.kind.rawValue)
            writer.append(frame.offset)
            writer.append(UInt32(frame.compressedBytes))
            writer.append(UInt32(frame.bytes))
            writer.append(frame.streamOffset)
            writer.append(frame.compressedCRC)
            writer.append(frame.crc)
            writer.append(UInt32(frame.member))
            writer.append(frame.firstPage.rawValue)
            writer.append(UInt32(frame.headerBytes))
        }
        return SealedObject.seal(writer)
    }

    /// Reads and checks: see `check` for what is promised of an index that was accepted.
    package init(decoding bytes: [UInt8]) throws(ArchiveError) {
        var reader = try SealedObject.open(
            bytes, magic: Self.magic, version: Self.version, object: Self.objectName)
        guard let codec = Codec(rawValue: try reader.read()) else { throw reader.damaged("unknown codec") }
        let system = SystemIdentifier(rawValue: try reader.read())
        let start = LSN(try reader.read(UInt64.self))
        let timeline = TimelineID(try reader.read(UInt32.self))
        let id = try reader.readText()
        guard ObjectName.isValid(id) else { throw reader.damaged("the backup id is not a name") }
        self.init(
            tag: ArchiveTag(backupID: id, systemIdentifier: system, timeline: timeline, startLSN: start),
            codec: codec)
        let archiveCount = try reader.expect(count: UInt64(try reader.read(UInt32.self)), itemBytes: 48)
        for number in 1..<archiveCount + 1 {
            archives.append(
                FinishedArchive(
                    number: number, bytes: try reader.read(), streamBytes: try reader.read(),
                    sha256: Array(try reader.take(32))))
        }
        let memberCount = try reader.expect(count: UInt64(try reader.read(UInt32.self)), itemBytes: 27)
        for _ in 0..<memberCount {
            guard let kind = Member.Kind(rawValue: try reader.read()) else {
                throw reader.damaged("a member of unknown kind")
            }
            members.append(
                Member(
                    kind: kind, archive: Int(try reader.read(UInt32.self)), path: "", bytes: try reader.read(),
                    crc: try reader.read(), modified: try reader.read()))
            members[members.count - 1].path = try reader.readText()
        }
        let frameCount = try reader.expect(count: try reader.read(UInt64.self), itemBytes: 52)
        frames.reserveCapacity(frameCount)
        for _ in 0..<frameCount {
            let archive = Int(try reader.read(UInt32.self))
            guard let kind = Frame.Kind(rawValue: try reader.read()) else {
                throw reader.damaged("a frame of unknown kind")
            }
            frames.append(
                Frame(
                    archive: archive, kind: kind, offset: try reader.read(),
                    compressedBytes: Int(try reader.read(UInt32.self)), bytes: Int(try reader.read(UInt32.self)),
                    streamOffset: try reader.read(), compressedCRC: try reader.read(), crc: try reader.read(),
                    member: Int(try reader.read(UInt32.self)), firstPage: PageNumber(try reader.read(UInt32.self)),
                    headerBytes: Int(try reader.read(UInt32.self))))
        }
        guard reader.remaining == 0 else { throw reader.damaged("\(reader.remaining) bytes too many") }
        try check()
    }
}
