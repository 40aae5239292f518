import Glibc

/// A moment, as microseconds since 1970-01-01T00:00:00Z, and its RFC 3339 text. Proleptic Gregorian, no leap seconds.
public struct Timestamp: Hashable, Comparable, Sendable, CustomStringConvertible {
    public var microseconds: Int64

    public init(microseconds: Int64) { self.microseconds = microseconds }

    /// The wall clock.
    public static var now: Timestamp {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Timestamp(microseconds: Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1_000)
    }

    /// Reads RFC 3339 with a zone; `nil` for anything else.
    public init?(_ text: some StringProtocol) {
        guard let microseconds = Self.parse(text) else { return nil }
        self.init(microseconds: microseconds)
    }

    public static func < (a: Self, b: Self) -> Bool { a.microseconds < b.microseconds }

    /// `2026-11-23T02:15:00.000000Z`
    public var description: String { Self.text(microseconds: microseconds) }

    /// `2026-11-23T02:15:00.000000Z`
    public static func text(microseconds: Int64) -> String {
        let (seconds, fraction) = floorDivide(microseconds, 1_000_000)
        return text(seconds: seconds) + "." + digits(fraction, 6) + "Z"
    }

    /// `20261123T021500Z`, as in backup ids: whole seconds.
    public var compactName: String {
        Self.text(seconds: Self.floorDivide(microseconds, 1_000_000).0).filter { $0 != "-" && $0 != ":" } + "Z"
    }

    /// Reads exactly what `compactName` writes.
    public init?(compactName text: some StringProtocol) {
        let bytes = Array(text.utf8)
        guard bytes.count == 16 else { return nil }
        func part(_ range: Range<Int>) -> String { String(decoding: bytes[range], as: UTF8.self) }
        self.init(
            "\(part(0..<4))-\(part(4..<6))-\(part(6..<11)):\(part(11..<13)):\(part(13..<16))")
        guard compactName == String(text) else { return nil }
    }

    /// The moment so many seconds later; the last or first one where there is none, as for a lease without end that
    /// somebody wrote into a repository.
    public func advanced(bySeconds seconds: Int64) -> Timestamp {
        let (distance, isFar) = seconds.multipliedReportingOverflow(by: 1_000_000)
        let (sum, isBeyond) = microseconds.addingReportingOverflow(distance)
        if isFar || isBeyond { return Timestamp(microseconds: seconds < 0 ? .min : .max) }
        return Timestamp(microseconds: sum)
    }

    /// Reads RFC 3339 with a zone (`Z` or `+01:00`), a `T` or a space between, and up to nine digits of a
    /// fraction of which microseconds are kept. `nil` for anything else, a missing zone included.
    public static func parse(_ text: some StringProtocol) -> Int64? {
        var rest = Substring(text)
        func number(_ count: Int) -> Int64? {
            let part = rest.prefix(count)
            guard part.utf8.count == count, part.utf8.allSatisfy({ (48...57).contains($0) }) else { return nil }
            rest = rest.dropFirst(count)
            return Int64(part)
        }
        func skip(_ allowed: String) -> Bool {
            guard let first = rest.first, allowed.contains(first) else { return false }
            rest = rest.dropFirst()
            return true
        }
        guard let year = number(4), skip("-"), let month = number(2), skip("-"), let day = number(2), skip("Tt "),
            let hour = number(2), skip(":"), let minute = number(2), skip(":"), let second = number(2),
            (1...12).contains(month), (1...daysIn(month: month, year: year)).contains(day),
            hour < 24, minute < 60, second < 61
        else { return nil }
        var microseconds: Int64 = 0
        if rest.first == "." {
            rest = rest.dropFirst()
            let fraction = rest.prefix { ("0"..."9").contains($0) }
            guard (1...9).contains(fraction.count), fraction.utf8.count == fraction.count else { return nil }
            rest = rest.dropFirst(fraction.count)
            microseconds = Int64((fraction + "000000").prefix(6))!  // six digits, checked above
        }
        var offset: Int64 = 0
        if skip("Zz") {
            offset = 0
        } else if let sign = rest.first, sign == "+" || sign == "-" {
            rest = rest.dropFirst()
            guard let hours = number(2), skip(":"), let minutes = number(2), hours < 24, minutes < 60 else {
                return nil
            }
            offset = (hours * 60 + minutes) * 60 * (sign == "-" ? -1 : 1)
        } else {
            return nil
        }
        guard rest.isEmpty else { return nil }
        let seconds = days(year: year, month: month, day: day) * 86_400 + hour * 3600 + minute * 60 + second - offset
        return seconds * 1_000_000 + microseconds
    }

    private static func text(seconds: Int64) -> String {
        let (day, time) = floorDivide(seconds, 86_400)
        let (year, month, dayOfMonth) = civil(day)
        return digits(year, 4) + "-" + digits(month, 2) + "-" + digits(dayOfMonth, 2) + "T" + digits(time / 3600, 2)
            + ":"
            + digits(time / 60 % 60, 2) + ":" + digits(time % 60, 2)
    }

    private static func digits(_ value: Int64, _ count: Int) -> String {
        let text = String(value)
        return String(repeating: "0", count: Swift.max(0, count - text.utf8.count)) + text
    }

    private static func floorDivide(_ a: Int64, _ b: Int64) -> (Int64, Int64) {
        let (quotient, rest) = a.quotientAndRemainder(dividingBy: b)
        return rest < 0 ? (quotient - 1, rest + b) : (quotient, rest)
    }

    private static func daysIn(month: Int64, year: Int64) -> Int64 {
        let isLeap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
        return month == 2 ? (isLeap ? 29 : 28) : [4, 6, 9, 11].contains(month) ? 30 : 31
    }

    /// Days since 1970-01-01: years are counted from March, so that the leap day is a year's last.
    private static func days(year: Int64, month: Int64, day: Int64) -> Int64 {
        let y = month <= 2 ? year - 1 : year
        let (era, yearOfEra) = floorDivide(y, 400)
        let dayOfYear = (153 * ((month + 9) % 12) + 2) / 5 + day - 1
        return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
    }

    private static func civil(_ days: Int64) -> (Int64, Int64, Int64) {
        let (era, dayOfEra) = floorDivide(days + 719_468, 146_097)
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shifted = (5 * dayOfYear + 2) / 153
        let month = shifted < 10 ? shifted + 3 : shifted - 9
        return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * shifted + 2) / 5 + 1)
    }
}
