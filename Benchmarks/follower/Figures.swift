import BenchmarkSupport

/// Figures of both sides under titles, printed as comparisons in the order in which the titles first came.
struct Figures {
    private var rows: [Comparison] = []

    mutating func note(
        _ title: String, of side: any Contender, _ value: Double, unit: String, better: Comparison.Better = .lower
    ) {
        let index =
            rows.firstIndex { $0.title == title }
            ?? {
                rows.append(Comparison(title, unit: unit, better: better, peer: "PostgreSQL 18"))
                return rows.count - 1
            }()
        if side.isPeer { rows[index].theirs.append(value) } else { rows[index].ours.append(value) }
    }

    func print() { for row in rows { row.print() } }
}

/// The value below which such a share of the values lies; NaN of none.
func percentile(_ share: Double, of values: [Double]) -> Double {
    guard !values.isEmpty else { return .nan }
    return values.sorted()[min(values.count - 1, Int(Double(values.count) * share))]
}
