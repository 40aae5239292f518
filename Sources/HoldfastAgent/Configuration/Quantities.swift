/// Sizes (`1GiB`) and durations (`5m`) as the configuration and the command line write them.
package enum Quantities {
    /// Bytes of `512KiB`, `16MiB`, `1GiB`, `2TiB`; `nil` for anything else, also for what does not fit 63 bits.
    package static func bytes(_ text: some StringProtocol) -> Int? {
        let units: [(String, Int)] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)]
        return value(text, units)
    }

    /// Milliseconds of `100ms`, `60s`, `5m`, `1h`, `30d`; `nil` for anything else.
    package static func milliseconds(_ text: some StringProtocol) -> Int? {
        // `ms` stands before `s` and `m`, which it contains.
        let units: [(String, Int)] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)]
        return value(text, units)
    }

    private static func value(_ text: some StringProtocol, _ units: [(String, Int)]) -> Int? {
        for (unit, factor) in units where text.hasSuffix(unit) {
            let digits = text.dropLast(unit.count)
            guard !digits.isEmpty, digits.utf8.count <= 18, digits.utf8.allSatisfy({ (48...57).contains($0) }),
                let number = Int(digits)
            else { return nil }
            let (product, overflow) = number.multipliedReportingOverflow(by: factor)
            return overflow ? nil : product
        }
        return nil
    }
}
