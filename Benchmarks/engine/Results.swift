import BenchmarkSupport
import Foundation

/// Figures by work and store, in the order of the rounds.
struct Results {
    private var works: [String] = []
    private var rates: [String: [String: [Double]]] = [:]

    mutating func note(_ work: String, _ name: String, _ rate: Double, unit: String = "/s") {
        if rates[work] == nil { works.append(work) }
        rates[work, default: [:]][name, default: []].append(rate)
        print("  \(Self.column(work, 44)) \(Self.column(name, 24)) \(Self.figure(rate))\(unit)")
        fflush(nil)
    }

    /// Medians; for each peer the median, least and greatest of the ratios of neighbours.
    func summarize() {
        print("\nmedians; ratios are holdfast's figure by the other's, round by round")
        for work in works {
            guard let ours = rates[work]?["holdfast"] else { continue }
            print("\(Self.column(work, 44)) \(Self.column("holdfast", 24)) \(Self.figure(median(ours)))")
            for (peer, theirs) in rates[work]!.sorted(by: { $0.key < $1.key }) where peer != "holdfast" {
                let ratios = zip(ours, theirs).map { $0 / $1 }
                let spread = String(
                    format: "ratio %.2f (%.2f to %.2f)", median(ratios), ratios.min() ?? .nan, ratios.max() ?? .nan)
                print(
                    "\(Self.column("", 44)) \(Self.column(peer, 24)) \(Self.figure(median(theirs)))   \(spread)")
            }
        }
    }

    private static func column(_ text: String, _ width: Int) -> String {
        text + String(repeating: " ", count: max(0, width - text.count))
    }

    private static func figure(_ value: Double) -> String {
        let text = String(format: value < 1000 ? "%.2f" : "%.0f", value)
        return String(repeating: " ", count: max(0, 12 - text.count)) + text
    }
}
