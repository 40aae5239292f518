import Crypto
import CryptoExtras
import Foundation

/// A password as the users file keeps it: scrypt (RFC 7914), with a salt of its own and its cost beside it.
///
///     $scrypt$ln=15,r=8,p=1$<salt>$<hash>        base64 without padding, as other programs write it
///
/// Checking takes tens of milliseconds and `128 · r · 2^ln` bytes by intention: never on the event loop.
package struct PasswordHash: Sendable, Equatable, CustomStringConvertible, CustomReflectable {
    /// The exponent of the cost: 2^15 blocks of 1 KiB, 32 MiB.
    package static let standardCost = 15
    /// What a file may ask of this server: 512 MiB at most, and no more than a few seconds.
    private static let costs = 4...19
    private static let blockSizes = 1...32
    private static let parallelisms = 1...16
    private static let saltBytes = 8...64
    private static let hashBytes = 16...64

    private let cost: Int
    private let blockSize: Int
    private let parallelism: Int
    private let salt: [UInt8]
    private let hash: SymmetricKey

    /// Hashes a new password with a random salt.
    package init(of password: [UInt8], cost: Int = standardCost) {
        precondition(Self.costs.contains(cost))
        let salt = SymmetricKey(size: .bits128).withUnsafeBytes { Array($0) }
        guard
            let hash = Self.derive(password, cost: cost, blockSize: 8, parallelism: 1, salt: salt, bytes: 32)
        else { preconditionFailure("scrypt fails only for want of memory or with a cost out of range") }
        (self.cost, blockSize, parallelism, self.salt, self.hash) = (cost, 8, 1, salt, hash)
    }

    /// Reads the notation above; nil when it is something else, or asks for too much.
    package init?(_ text: some StringProtocol) {
        let parts = text.split(separator: "$", omittingEmptySubsequences: false)
        guard parts.count == 5, parts[0].isEmpty, parts[1] == "scrypt" else { return nil }
        let names = ["ln=", "r=", "p="]
        let settings = parts[2].split(separator: ",", omittingEmptySubsequences: false)
        guard settings.count == 3, zip(settings, names).allSatisfy({ $0.hasPrefix($1) }) else { return nil }
        let numbers = zip(settings, names).compactMap { Int($0.dropFirst($1.count)) }
        guard numbers.count == 3, Self.costs.contains(numbers[0]), Self.blockSizes.contains(numbers[1]),
            Self.parallelisms.contains(numbers[2]), numbers[1] * numbers[2] << numbers[0] <= 4 << 20
        else { return nil }
        guard let salt = Self.decode(parts[3]), Self.saltBytes.contains(salt.count),
            let hash = Self.decode(parts[4]), Self.hashBytes.contains(hash.count)
        else { return nil }
        (cost, blockSize, parallelism) = (numbers[0], numbers[1], numbers[2])
        self.salt = salt
        self.hash = SymmetricKey(data: hash)
    }

    /// In the notation above.
    package var encoded: String {
        let hash = hash.withUnsafeBytes { Array($0) }
        return "$scrypt$ln=\(cost),r=\(blockSize),p=\(parallelism)$\(Self.encode(salt))$\(Self.encode(hash))"
    }

    /// Whether `password` is the one that was hashed. The comparison takes the same time wherever they differ.
    package func matches(_ password: [UInt8]) -> Bool {
        guard
            let derived = Self.derive(
                password, cost: cost, blockSize: blockSize, parallelism: parallelism, salt: salt,
                bytes: hash.bitCount / 8)
        else { return false }
        // SymmetricKey compares in constant time. An empty password is never right.
        return derived == hash && !password.isEmpty
    }

    /// A hash of no password: what unknown users are checked against, so that they take as long as one with `other`.
    package init(decoyFor other: PasswordHash?) {
        (cost, blockSize, parallelism) =
            other.map { ($0.cost, $0.blockSize, $0.parallelism) } ?? (Self.standardCost, 8, 1)
        salt = SymmetricKey(size: .bits128).withUnsafeBytes { Array($0) }
        hash = SymmetricKey(size: .bits256)
    }

    /// Neither hash nor salt, however it is asked for.
    package var description: String { "a password's hash" }
    package var customMirror: Mirror { Mirror(self, children: []) }

    private static func derive(
        _ password: [UInt8], cost: Int, blockSize: Int, parallelism: Int, salt: [UInt8], bytes: Int
    ) -> SymmetricKey? {
        try? KDF.Scrypt.deriveKey(
            // The library needs an address to read from, also for no bytes.
            from: Data(password.isEmpty ? [0] : password), salt: salt, outputByteCount: bytes, rounds: 1 << cost,
            blockSize: blockSize, parallelism: parallelism)
    }

    private static func encode(_ bytes: [UInt8]) -> String {
        Data(bytes).base64EncodedString().replacing("=", with: "")
    }

    private static func decode(_ text: some StringProtocol) -> [UInt8]? {
        let padding = String(repeating: "=", count: (4 - text.utf8.count % 4) % 4)
        return Data(base64Encoded: text + padding).map { Array($0) }
    }
}
