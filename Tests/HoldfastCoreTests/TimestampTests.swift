import Foundation
import HoldfastCore
import HoldfastTestSupport
import Testing

@Suite("Times are RFC 3339 with a zone, to the microsecond")
struct TimestampTests {
    @Test("text and back, over eras and leap days")
    func roundTrip() {
        #expect(Timestamp.text(microseconds: 0) == "1970-01-01T00:00:00.000000Z")
        #expect(Timestamp.text(microseconds: -1) == "1969-12-31T23:59:59.999999Z")
        #expect(Timestamp.parse("2026-11-23T02:15:00Z") == 1_795_400_100_000_000)
        #expect(Timestamp.parse("2026-11-23 03:15:00.5+01:00") == 1_795_400_100_500_000)
        #expect(Timestamp.parse("2024-02-29T00:00:00-00:30") == 1_709_166_600_000_000)
        #expect(Timestamp(microseconds: 1_795_400_100_000_000).compactName == "20261123T021500Z")
        #expect(Timestamp(compactName: "20261123T021500Z")?.microseconds == 1_795_400_100_000_000)
        for bad in ["20261123T0215Z", "20261323T021500Z", "20261123t021500Z", "20261123T021500z", ""] {
            #expect(Timestamp(compactName: bad) == nil)
        }
        var random = SeededGenerator(seed: SeededGenerator.announcedSeed("timestamps"))
        let formatter = ISO8601DateFormatter()
        for _ in 0..<2000 {
            let time = Int64.random(in: -2_000_000_000...20_000_000_000, using: &random)
            let text = Timestamp.text(microseconds: time * 1_000_000)
            #expect(Timestamp.parse(text) == time * 1_000_000)
            #expect(
                text.replacing(".000000", with: "") == formatter.string(from: Date(timeIntervalSince1970: Double(time)))
            )
        }
    }

    @Test("a time without a zone, or that is none, is refused")
    func refused() {
        for bad in [
            "", "2026-11-23T02:15:00", "2026-11-23", "2026-02-29T00:00:00Z", "2026-13-01T00:00:00Z",
            "2026-11-23T24:00:00Z",
            "2026-11-23T02:15:00.Z", "2026-11-23T02:15:00Zx", "now", "2026-11-23T02:15:00+1:00", "２０26-11-23T02:15:00Z",
        ] { #expect(Timestamp.parse(bad) == nil, "\(bad)") }
    }

    @Test("every number of 64 bits has a text: a damaged or hostile record may bear any time")
    func extremes() {
        #expect(Timestamp.text(microseconds: .max) == "294247-01-10T04:00:54.775807Z")
        #expect(Timestamp.text(microseconds: .min) == "-290308-12-21T19:59:05.224192Z")
        #expect(Timestamp.text(microseconds: .min + 1).hasSuffix("224193Z"))
        #expect(Timestamp.text(microseconds: -1) == "1969-12-31T23:59:59.999999Z")
    }

    @Test("S9: a time moved by any number of seconds is one that exists")
    func advanced() {
        let time = Timestamp(microseconds: 1_795_400_100_000_000)
        #expect(time.advanced(bySeconds: 2).microseconds == 1_795_400_102_000_000)
        #expect(time.advanced(bySeconds: .max).microseconds == .max)
        #expect(time.advanced(bySeconds: .min).microseconds == .min)
        #expect(Timestamp(microseconds: .max).advanced(bySeconds: 1).microseconds == .max)
        #expect(Timestamp(microseconds: .min).advanced(bySeconds: -1).microseconds == .min)
    }
}
