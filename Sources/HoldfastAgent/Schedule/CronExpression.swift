/// A five-field schedule: minute, hour, day of month, month, day of week.
///
/// Each field is `*`, numbers, ranges `a-b`, lists `a,b` and steps `*/n`, `a-b/n`; months and weekdays may be named
/// (`JAN`, `sun`), 0 and 7 are Sunday. When both day fields are restricted a day matches if either does, as in
/// Vixie cron. `@hourly @daily @midnight @weekly @monthly @yearly @annually` stand for what they say.
package struct CronExpression: Sendable, Equatable, CustomStringConvertible {
    package struct Failure: Error, Equatable {
        package var why: String
    }

    /// As it was written.
    package let description: String
    /// Bit n: value n matches.
    let minutes: UInt64
    let hours: UInt64
    let daysOfMonth: UInt64
    let months: UInt64
    let daysOfWeek: UInt64
    private let bothDaysRestricted: Bool

    package init(_ text: some StringProtocol) throws(Failure) {
        let text = String(text)
        description = text
        guard text.utf8.count <= 256 else { throw Failure(why: "it has more than 256 bytes") }
        let plain = try Self.expand(text)
        let fields = plain.split(whereSeparator: { $0 == " " || $0 == "\t" })
        guard fields.count == 5 else { throw Failure(why: "it has \(fields.count) fields where 5 are expected") }
        minutes = try Self.field(fields[0], "minute", 0...59)
        hours = try Self.field(fields[1], "hour", 0...23)
        daysOfMonth = try Self.field(fields[2], "day of month", 1...31)
        months = try Self.field(fields[3], "month", 1...12, names: Self.monthNames, firstName: 1)
        let week = try Self.field(fields[4], "day of week", 0...7, names: Self.dayNames, firstName: 0)
        daysOfWeek = (week | (week >> 7)) & 0x7F
        bothDaysRestricted = !fields[2].hasPrefix("*") && !fields[4].hasPrefix("*")
        guard canHappen else { throw Failure(why: "no year has such a day") }
    }

    private static let monthNames = [
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ]
    private static let dayNames = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]

    private static func expand(_ text: String) throws(Failure) -> String {
        guard text.hasPrefix("@") else { return text }
        switch text {
        case "@hourly": return "0 * * * *"
        case "@daily", "@midnight": return "0 0 * * *"
        case "@weekly": return "0 0 * * 0"
        case "@monthly": return "0 0 1 * *"
        case "@yearly", "@annually": return "0 0 1 1 *"
        default: throw Failure(why: "it is no schedule of that name")
        }
    }

    private static func field(
        _ text: Substring, _ what: String, _ range: ClosedRange<Int>, names: [String] = [], firstName: Int = 0
    ) throws(Failure) -> UInt64 {
        var bits: UInt64 = 0
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let pieces = part.split(separator: "/", omittingEmptySubsequences: false)
            var bounds = range
            var isSingle = false
            guard (1...2).contains(pieces.count) else { throw Failure(why: "the \(what) has more than one step") }
            if pieces[0] != "*" {
                let ends = pieces[0].split(separator: "-", omittingEmptySubsequences: false)
                let low = try number(ends[0], what, range, names, firstName)
                let high = ends.count > 1 ? try number(ends[1], what, range, names, firstName) : low
                guard ends.count <= 2, low <= high else { throw Failure(why: "the range of the \(what) is empty") }
                bounds = low...high
                isSingle = ends.count == 1
            } else if range == 0...7 {
                bounds = 0...6
            }
            var step = 1
            if pieces.count == 2 {
                guard let given = Int(pieces[1]), pieces[1].utf8.count <= 2, given > 0 else {
                    throw Failure(why: "the step of the \(what) is not a number above 0")
                }
                step = given
                // `5/15` means from 5 on.
                if isSingle { bounds = bounds.lowerBound...range.upperBound }
            }
            for value in stride(from: bounds.lowerBound, through: bounds.upperBound, by: step) { bits |= 1 << value }
        }
        return bits
    }

    private static func number(
        _ text: Substring, _ what: String, _ range: ClosedRange<Int>, _ names: [String], _ firstName: Int
    ) throws(Failure) -> Int {
        if let index = names.firstIndex(of: text.lowercased()) { return index + firstName }
        guard text.utf8.count <= 2, text.utf8.allSatisfy({ (48...57).contains($0) }), let value = Int(text),
            range.contains(value)
        else {
            throw Failure(why: "the \(what) is not within \(range.lowerBound) to \(range.upperBound)")
        }
        return value
    }

    /// Some month of the expression must have one of its days; weekdays always come.
    private var canHappen: Bool {
        if bothDaysRestricted { return true }
        let longest = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
        return (1...12).contains { month in
            months & (1 << UInt64(month)) != 0 && daysOfMonth & ((2 << UInt64(longest[month - 1])) - 1) != 0
        }
    }

    func matches(_ day: CivilDay) -> Bool {
        guard months & (1 << UInt64(day.month)) != 0 else { return false }
        let ofMonth = daysOfMonth & (1 << UInt64(day.day)) != 0
        let ofWeek = daysOfWeek & (1 << UInt64(day.weekday)) != 0
        return bothDaysRestricted ? ofMonth || ofWeek : ofMonth && ofWeek
    }

    /// Every hour is meant, so that the schedule follows elapsed time and not the clock on the wall.
    var isEveryHour: Bool { hours == (1 << 24) - 1 }
}
