import HoldfastCore

/// Looks at pages as they lie in their files, one after the other: checksum, identity, bounds, and that no page is newer
/// than the log. Memory: a bit for each page, and the problems that are listed.
package struct PageSweep {
    /// Pages that are read at once: 1 MiB.
    static let runPages = 128

    private(set) var pages: UInt64 = 0
    private(set) var problems: [CheckProblem] = []
    private(set) var unlisted: UInt64 = 0
    private let damaged: ReachedPages

    /// - Parameter pages: a bound of the page numbers that will be looked at.
    init(pages: UInt64) { damaged = ReachedPages(count: UInt32(clamping: pages)) }

    func isDamaged(_ page: PageNumber) -> Bool { page.rawValue < damaged.count && damaged.contains(page) }

    /// - Parameters:
    ///   - base: the bytes of `count` pages from `first` on.
    ///   - end: no page may bear an LSN beyond it.
    mutating func look(at base: UnsafeRawPointer, from first: PageNumber, count: Int, end: LSN) {
        for index in 0..<count {
            let number = PageNumber(first.rawValue + UInt32(index))
            let page = Page(reading: base + index * Page.bytes)
            pages += 1
            if let fault = page.fault(expected: number) {
                damaged.insert(number)
                report(CheckProblem(number, "\(fault)"))
            } else if page.lsn > end {
                report(CheckProblem(number, "its LSN \(page.lsn) lies behind the end of the log, \(end)"))
            }
        }
    }

    mutating func cannotRead(_ page: PageNumber, _ why: String) {
        damaged.insert(page)
        report(CheckProblem(page, "it cannot be read: \(why)"))
    }

    mutating func report(_ problem: CheckProblem) {
        if problems.count < CheckResult.maximumProblems { problems.append(problem) } else { unlisted += 1 }
    }
}
