import Glibc
import HoldfastCore

/// Something wrong with the structure of a page space.
package struct StructureProblem: Sendable, Equatable, CustomStringConvertible {
    package let page: PageNumber
    package let text: String
    package var description: String { "page \(page): \(text)" }
}

/// Walks everything that pages 0 and 1 lead to, and says what is wrong with it. Every page below the page count
/// must be reached exactly once, by a tree, an overflow chain or the free list; trees must be in order, fit
/// their separators, siblings and counts. It believes nothing that it reads, and ends on any bytes.
///
///     let problems = try StructureCheck.run(snapshot)
///
/// It needs a version of the pages that stands still: a snapshot, or a directory that nobody has open.
package struct StructureCheck<Reader: PageReader> {
    let reader: Reader
    package private(set) var problems: [StructureProblem] = []
    var reached: ReachedPages
    /// More would not help anybody.
    static var maximumProblems: Int { 1000 }

    /// - Throws: what is not damage of a page or tree: a failed read, a snapshot that is too old.
    package static func run(_ reader: Reader) throws(EngineError) -> [StructureProblem] {
        var check = try StructureCheck(reader)
        guard check.reached.count > 0 else { return check.problems }
        try check.checkFreeList()
        try check.checkTrees()
        check.reportLost()
        return check.problems
    }

    private init(_ reader: Reader) throws(EngineError) {
        self.reader = reader
        reached = ReachedPages(count: 0)
        let meta: Meta
        do throws(EngineError) { meta = try Meta(reading: reader.page(PageNumber(0))) } catch {
            try report(error, PageNumber(0))
            return
        }
        reached = ReachedPages(count: meta.pageCount)
        reached.insert(PageNumber(0))
        checkIdentity(Page(meta.base), PageNumber(0))
    }

    mutating func report(_ page: PageNumber, _ text: String) {
        if problems.count < Self.maximumProblems { problems.append(StructureProblem(page: page, text: text)) }
    }

    /// Damage becomes a problem, everything else goes on its way.
    mutating func report(_ error: EngineError, _ page: PageNumber) throws(EngineError) {
        switch error {
        case .damagedPage(let damaged, let why), .damagedTree(let damaged, let why): report(damaged, why)
        default: throw error
        }
    }

    /// - Returns: false when the page is not to be followed: it lies outside, or was reached before.
    mutating func reach(_ number: PageNumber, from referrer: PageNumber) -> Bool {
        guard number.rawValue < reached.count else {
            report(referrer, "it refers to page \(number), which is outside the page space")
            return false
        }
        guard reached.insert(number) else {
            report(number, "it is used twice, the second time by page \(referrer)")
            return false
        }
        return true
    }

    mutating func checkIdentity(_ page: Page, _ number: PageNumber) {
        if page.number != number { report(number, "its header says that it is page \(page.number)") }
    }

    private mutating func checkFreeList() throws(EngineError) {
        do throws(EngineError) {
            let meta = try Meta(reading: reader.page(PageNumber(0)))
            let expected = meta.freePages
            var number = meta.freeHead, referrer = PageNumber(0), found: UInt32 = 0
            while number.rawValue != 0, reach(number, from: referrer) {
                let list = FreeListPage(try reader.page(number))
                checkIdentity(Page(list.base), number)
                try list.check(number)
                found += 1
                for index in 0..<list.count where reach(list.entry(index), from: number) { found += 1 }
                (referrer, number) = (number, list.next)
            }
            if found != expected {
                report(PageNumber(0), "it counts \(expected) free pages, and the list has \(found)")
            }
        } catch { try report(error, PageNumber(0)) }
    }

    private mutating func checkTrees() throws(EngineError) {
        var walk = TreeWalk(catalog: true)
        try check(PageSpace.catalogRoot, from: PageNumber(0), &walk)
        var ids: Set<UInt64> = []
        let nextID = try Meta(reading: reader.page(PageNumber(0))).nextTreeID
        for tree in walk.trees {
            if tree.id >= nextID { report(PageNumber(0), "the next tree's id \(nextID) is not above \(tree.id)") }
            if !ids.insert(tree.id).inserted { report(tree.root, "two trees have the id \(tree.id)") }
            var walk = TreeWalk()
            try check(tree.root, from: PageSpace.catalogRoot, &walk)
            if walk.records != tree.count {
                report(tree.root, "the catalog counts \(tree.count) records, and the tree has \(walk.records)")
            }
        }
        for root in walk.dropped {
            var walk = TreeWalk(isDropped: true)
            try check(root, from: PageSpace.catalogRoot, &walk)
        }
    }

    /// Pages that are neither in use nor free, as ranges.
    private mutating func reportLost() {
        for range in reached.missing(limit: Self.maximumProblems) {
            report(
                PageNumber(range.lowerBound),
                range.count == 1
                    ? "it is neither in use nor free"
                    : "pages up to \(range.upperBound - 1) are neither in use nor free")
        }
    }
}

/// A set of page numbers below a bound, one bit each.
final class ReachedPages {
    let count: UInt32
    private let words: UnsafeMutablePointer<UInt64>

    /// A page of bits comes into being when it is touched: a damaged bound costs address space only.
    init(count: UInt32) {
        self.count = count
        guard let memory = calloc(Int(count) / 64 + 1, 8) else { fatalError("no memory for a set of \(count) pages") }
        words = memory.bindMemory(to: UInt64.self, capacity: Int(count) / 64 + 1)
    }

    deinit { free(words) }

    /// - Returns: false when it was there.
    @discardableResult func insert(_ page: PageNumber) -> Bool {
        let word = Int(page.rawValue / 64), bit = UInt64(1) << UInt64(page.rawValue % 64)
        defer { words[word] |= bit }
        return words[word] & bit == 0
    }

    /// `page` must lie below `count`.
    func contains(_ page: PageNumber) -> Bool {
        words[Int(page.rawValue / 64)] & UInt64(1) << UInt64(page.rawValue % 64) != 0
    }

    /// The ranges of numbers that were not inserted.
    func missing(limit: Int) -> [Range<UInt32>] {
        var ranges: [Range<UInt32>] = []
        var start: UInt32?
        var number: UInt32 = 0
        while number < count, ranges.count < limit {
            let word = words[Int(number / 64)]
            if number % 64 == 0, count - number >= 64, word == .max && start == nil || word == 0 && start != nil {
                number += 64
                continue
            }
            let isMissing = word & (UInt64(1) << UInt64(number % 64)) == 0
            if isMissing, start == nil { start = number }
            if !isMissing, let first = start {
                ranges.append(first..<number)
                start = nil
            }
            number += 1
        }
        if let first = start, ranges.count < limit { ranges.append(first..<count) }
        return ranges
    }
}
