import CShims
import Glibc
import HoldfastCore

/// Archives as files of one directory under their own names, for whoever needs no repository.
/// Files are made exclusively and synced at the end; the directory is synced with them.
///
/// `@unchecked Sendable`: the pipeline calls a sink from one thread at a time.
package final class DirectorySink: ArchiveSink, @unchecked Sendable {
    private let directory: String
    private let tag: ArchiveTag
    private let codec: Codec
    private var fd: Int32 = -1

    package init(directory: String, tag: ArchiveTag, codec: Codec) {
        self.directory = directory
        self.tag = tag
        self.codec = codec
    }

    deinit { if fd >= 0 { close(fd) } }

    private func path(_ number: Int) -> String { directory + "/" + tag.archiveName(number, codec: codec) }

    package func begin(archive number: Int) throws {
        fd = open(path(number), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard fd >= 0 else { throw TargetFile.failure("create", path(number)) }
    }

    package func write(_ bytes: UnsafeRawBufferPointer) throws {
        var done = 0
        while done < bytes.count, let base = bytes.baseAddress {
            let count = Glibc.write(fd, base + done, bytes.count - done)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw TargetFile.failure("write", directory) }
            done += count
        }
    }

    package func finish(_ archive: FinishedArchive) throws {
        guard fsync(fd) == 0 else { throw TargetFile.failure("fsync", path(archive.number)) }
        close(fd)
        fd = -1
        let folder = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard folder >= 0 else { throw TargetFile.failure("open", directory) }
        defer { close(folder) }
        guard fsync(folder) == 0 else { throw TargetFile.failure("fsync of the directory", directory) }
    }
}

/// Reads what `DirectorySink` wrote.
package final class DirectorySource: ArchiveSource {
    private let descriptors: [Int32]

    package init(directory: String, index: FrameIndex) throws(ArchiveError) {
        var descriptors: [Int32] = []
        for archive in index.archives {
            let path = directory + "/" + index.archiveName(archive.number)
            let fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC)
            guard fd >= 0 else {
                let error = TargetFile.failure("open", path)
                for fd in descriptors { close(fd) }
                throw error
            }
            descriptors.append(fd)
        }
        self.descriptors = descriptors
    }

    deinit { for fd in descriptors { close(fd) } }

    package func read(archive number: Int, into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws -> Int
    {
        guard descriptors.indices.contains(number - 1) else { throw ArchiveError.invalid("archive \(number)") }
        var done = 0
        while done < buffer.count, let base = buffer.baseAddress {
            let count = pread(descriptors[number - 1], base + done, buffer.count - done, off_t(offset) + off_t(done))
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw TargetFile.failure("read", "archive \(number)") }
            if count == 0 { break }
            done += count
        }
        return done
    }
}
