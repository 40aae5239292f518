/// The integer that `text` spells in the one way Redis accepts: an optional minus sign and digits,
/// without a plus sign, spaces or leading zeros. `nil` for everything else and beyond 64 bits.
package func parseInteger(_ text: UnsafeRawBufferPointer) -> Int64? {
    guard text.count > 0, text.count <= 20 else { return nil }
    let negative = text[0] == 0x2D
    var at = negative ? 1 : 0
    guard at < text.count else { return nil }
    if text[at] == 0x30 { return text.count == 1 ? 0 : nil }
    var magnitude: UInt64 = 0
    while at < text.count {
        let digit = text[at] &- 0x30
        guard digit <= 9 else { return nil }
        let (product, overflow) = magnitude.multipliedReportingOverflow(by: 10)
        let (sum, carry) = product.addingReportingOverflow(UInt64(digit))
        if overflow || carry { return nil }
        magnitude = sum
        at += 1
    }
    if negative {
        guard magnitude <= 1 << 63 else { return nil }
        return Int64(truncatingIfNeeded: 0 &- magnitude)
    }
    return Int64(exactly: magnitude)
}
