import HoldfastCore

/// `pages.crc`: the CRC32C of each page that a backup holds (over all 8,192 bytes, continuing 0), so
/// that a restore checks pages by themselves and the checksum of any file is combined, not read.
///
///     bytes  field, little-endian
///         8  "HFPAGECR"
///         4  version: 1
///         4  number of runs
///        8r  runs: first page, number of pages; ascending, not touching
///        4p  a CRC32C for each page, in the runs' order
///         4  CRC32C of all before
package struct PageChecksums: Sendable, Equatable {
    package static let objectName = "pages.crc"
    private static let magic = "HFPAGECR"
    private static let version: UInt32 = 1

    /// Pages first ..< first + count.
    package struct Run: Sendable, Equatable {
        package var first: PageNumber
        package var count: Int
        /// Where the run's first CRC stands in `values`.
        package var start: Int
    }

    package private(set) var runs: [Run] = []
    package private(set) var values: [UInt32] = []

    package init() {}

    /// How many pages it holds checksums of.
    package var count: Int { values.count }

    mutating func reserve(_ pages: Int) { values.reserveCapacity(pages) }

    /// Adds pages behind all that were added before.
    mutating func append(first: PageNumber, _ crcs: some Sequence<UInt32>) {
        let start = values.count
        values.append(contentsOf: crcs)
        let count = values.count - start
        guard count > 0 else { return }
        if let last = runs.last {
            let end = UInt64(last.first.rawValue) + UInt64(last.count)
            precondition(UInt64(first.rawValue) >= end, "pages come in ascending order")
            if UInt64(first.rawValue) == end {
                runs[runs.count - 1].count += count
                return
            }
        }
        runs.append(Run(first: first, count: count, start: start))
    }

    /// The CRC of `page`; `nil` when this backup does not hold it.
    package subscript(page: PageNumber) -> UInt32? {
        index(of: page).map { values[$0] }
    }

    /// The place of `page` in `values`.
    func index(of page: PageNumber) -> Int? {
        var low = 0, high = runs.count
        while low < high {
            let middle = (low + high) / 2
            if runs[middle].first <= page { low = middle + 1 } else { high = middle }
        }
        guard low > 0 else { return nil }
        let run = runs[low - 1]
        let distance = Int(page.rawValue - run.first.rawValue)
        return distance < run.count ? run.start + distance : nil
    }

    package func encoded() -> [UInt8] {
        var writer = ByteWriter(reserving: 20 + runs.count * 8 + values.count * 4)
        writer.append(Array(Self.magic.utf8))
        writer.append(Self.version)
        writer.append(UInt32(runs.count))
        for run in runs {
            writer.append(run.first.rawValue)
            writer.append(UInt32(run.count))
        }
        for value in values { writer.append(value) }
        return SealedObject.seal(writer)
    }

    package init(decoding bytes: [UInt8]) throws(ArchiveError) {
        var reader = try SealedObject.open(
            bytes, magic: Self.magic, version: Self.version, object: Self.objectName)
        let runCount = try reader.expect(count: UInt64(try reader.read(UInt32.self)), itemBytes: 8)
        var total: UInt64 = 0
        var end: UInt64 = 0
        for index in 0..<runCount {
            let first: UInt32 = try reader.read()
            let count: UInt32 = try reader.read()
            guard count > 0, index == 0 || UInt64(first) > end, UInt64(first) + UInt64(count) <= 1 << 32 else {
                throw reader.damaged("run \(index) is out of order")
            }
            runs.append(Run(first: PageNumber(first), count: Int(count), start: Int(total)))
            total += UInt64(count)
            end = UInt64(first) + UInt64(count)
        }
        let pages = try reader.expect(count: total, itemBytes: 4)
        let part = try reader.take(pages * 4)
        values = [UInt32](unsafeUninitializedCapacity: pages) { target, initialized in
            part.withUnsafeBytes { source in
                for index in 0..<pages {
                    target.initializeElement(
                        at: index,
                        to: UInt32(littleEndian: source.loadUnaligned(fromByteOffset: index * 4, as: UInt32.self)))
                }
            }
            initialized = pages
        }
        guard reader.remaining == 0 else { throw reader.damaged("\(reader.remaining) bytes too many") }
    }
}
