/// The commands between `MULTI` and `EXEC`.
struct QueuedTransaction {
    /// Whole requests.
    private(set) var requests: [UInt8] = []
    private(set) var count = 0
    /// One of them was refused: `EXEC` will be too.
    var isBroken = false
    /// Whether all are quick enough for the event loop.
    private(set) var isShort = true

    mutating func add(_ request: UnsafeRawBufferPointer, _ specification: CommandSpecification) {
        requests.append(contentsOf: request)
        count += 1
        if specification.kind == .scan || specification.command == .flushdb || requests.count > 64 << 10 {
            isShort = false
        }
    }
}
