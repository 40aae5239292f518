import HoldfastCore

/// A place between records, and the CRC of the record that ends there. Every record bears the CRC of the one before it: two
/// logs that agree about such a place are the same up to it.
struct LogPlace: Equatable, Sendable {
    var lsn: LSN
    var chain: UInt32
}
