/// A day of the Gregorian calendar, numbered from 1970-01-01. The algorithms are Howard Hinnant's
/// ("chrono-Compatible Low-Level Date Algorithms").
struct CivilDay: Sendable, Equatable {
    let number: Int
    let year: Int
    let month: Int
    let day: Int

    init(number: Int) {
        self.number = number
        let z = number + 719_468
        let era = (z >= 0 ? z : z - 146_096) / 146_097
        let dayOfEra = z - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shifted = (5 * dayOfYear + 2) / 153
        day = dayOfYear - (153 * shifted + 2) / 5 + 1
        month = shifted < 10 ? shifted + 3 : shifted - 9
        year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
    }

    /// 0 is Sunday.
    var weekday: Int { ((number % 7) + 11) % 7 }
}
