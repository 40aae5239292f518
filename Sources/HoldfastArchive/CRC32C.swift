import CShims
import HoldfastCore

/// Arithmetic on CRC32C values (`hf_crc32c`): of the whole from those of the parts, without reading again.
package enum CRC32C {
    /// The CRC32C of A followed by B, from the CRCs of both and the length of B.
    package static func combine(_ a: UInt32, _ b: UInt32, bytesOfB: UInt64) -> UInt32 {
        multiply(powerOfX(bits: bytesOfB), a) ^ b
    }

    package static func of(_ bytes: UnsafeRawBufferPointer, continuing crc: UInt32 = 0) -> UInt32 {
        hf_crc32c(crc, bytes.baseAddress, bytes.count)
    }

    package static func of(_ bytes: [UInt8], continuing crc: UInt32 = 0) -> UInt32 {
        bytes.withUnsafeBytes { of($0, continuing: crc) }
    }

    /// Moves a CRC over a fixed number of further bytes in four look-ups.
    package struct Shift: Sendable {
        private let table: [UInt32]

        package init(bytes: UInt64) {
            let factor = powerOfX(bits: bytes)
            var table = [UInt32](repeating: 0, count: 1024)
            for lane in 0..<4 {
                for value in 0..<256 {
                    table[lane * 256 + value] = multiply(factor, UInt32(value) << UInt32(8 * lane))
                }
            }
            self.table = table
        }

        @inline(__always) package func callAsFunction(_ crc: UInt32) -> UInt32 {
            table[Int(crc & 0xFF)] ^ table[256 + Int(crc >> 8 & 0xFF)] ^ table[512 + Int(crc >> 16 & 0xFF)]
                ^ table[768 + Int(crc >> 24)]
        }
    }

    /// `a * b` modulo the polynomial, both reflected: bit 31 is x^0.
    private static func multiply(_ a: UInt32, _ b: UInt32) -> UInt32 {
        var product: UInt32 = 0
        var b = b
        var bit: UInt32 = 1 << 31
        while bit != 0 {
            if a & bit != 0 { product ^= b }
            b = b & 1 != 0 ? b >> 1 ^ 0x82F6_3B78 : b >> 1
            bit >>= 1
        }
        return product
    }

    /// x to the power of 8 times `bytes`, by repeated squaring.
    private static func powerOfX(bits bytes: UInt64) -> UInt32 {
        var result: UInt32 = 1 << 31
        var square: UInt32 = 1 << 23  // x^8
        var n = bytes
        while n != 0 {
            if n & 1 != 0 { result = multiply(square, result) }
            square = multiply(square, square)
            n >>= 1
        }
        return result
    }
}

/// The plain CRC32C of whole pages, from the checksum that a page carries: one pass over a page
/// proves it and yields the CRC that `pages.crc`, frames and manifest are combined from.
package struct PageCRC: Sendable {
    private let pastBody = CRC32C.Shift(bytes: UInt64(Page.bytes - 4))
    private let pastPage = CRC32C.Shift(bytes: UInt64(Page.bytes))
    package let ofZeros: UInt32

    package init() {
        ofZeros = CRC32C.of([UInt8](repeating: 0, count: Page.bytes))
    }

    /// The CRC32C of the 8,192 bytes of `page`, for which `page.fault(expected: number)` was nil.
    ///
    /// `hf_crc32c(s, D) = shift(s) ^ hf_crc32c(0, D)`, so the CRC of the body continued from the page
    /// number (what the page stores) becomes the one continued from the first four bytes.
    @inline(__always) package func ofSound(_ page: Page, number: PageNumber) -> UInt32 {
        let stored = page.checksum
        if stored == 0, page.isAllZero { return ofZeros }
        return stored ^ pastBody(number.rawValue ^ hf_crc32c(0, page.base, 4))
    }

    /// The CRC of something followed by a page.
    @inline(__always) package func append(_ page: UInt32, to crc: UInt32) -> UInt32 { pastPage(crc) ^ page }
}
