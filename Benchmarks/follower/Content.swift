import BenchmarkSupport

/// What both sides hold: `records`, which stay as they are, and `load`, small ones that load updates at random.
struct Content {
    let megabytes: Int

    /// One of `records`: the first that the generator makes.
    static let firstKey = "000:000000"
    /// Bytes of a value of `load`: eight numbers of twelve digits, and four more.
    static let valueBytes = 100

    /// Of `load`: their keys are `key:` and twelve digits, as redis-benchmark makes them.
    var loadRecords: Int { max(10_000, megabytes * 2000 / 3) }

    /// A Python program that prints `records` as `holdfast load` and COPY read them.
    var recordsGenerator: String { LoadedLeader.generator(megabytes, .text) }

    /// The same for `load`.
    var loadGenerator: String {
        """
        import sys
        sys.stdout.writelines('key:%012d\\t' % n + 'x' * \(Self.valueBytes) + '\\n' for n in range(\(loadRecords)))
        """
    }

    var description: String {
        "\(megabytes) MB of records of about 750 bytes, and \(loadRecords) of \(Self.valueBytes) that the load updates"
    }
}
