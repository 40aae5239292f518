import HoldfastCore

/// Something wrong in a data directory: the object it is wrong with (`page 17`, `control`, `pages/00000002`), and what.
package struct CheckProblem: Sendable, Equatable, CustomStringConvertible {
    package let object: String
    package let problem: String
    package var description: String { "\(object): \(problem)" }

    package init(object: String, problem: String) {
        self.object = object
        self.problem = problem
    }

    init(_ page: PageNumber, _ problem: String) { self.init(object: "page \(page)", problem: problem) }
}

/// What a check of a page space found.
package struct CheckResult: Sendable, Equatable {
    /// The state whose structure was checked: the end of its last commit.
    package var lsn: LSN
    /// 8 KiB pages of the page files that were read and compared with their checksums.
    package var pages: UInt64
    /// At most `maximumProblems`.
    package var problems: [CheckProblem]
    /// Problems that were found and are not listed.
    package var unlisted: UInt64

    /// More would not help anybody.
    package static let maximumProblems = 1000

    init(lsn: LSN) {
        self.lsn = lsn
        pages = 0
        problems = []
        unlisted = 0
    }

    mutating func add(_ problem: CheckProblem) {
        if problems.count < Self.maximumProblems { problems.append(problem) } else { unlisted += 1 }
    }

    /// Adds what the sweep of the files and the walk of the structure found. A page whose bytes are damaged is named
    /// once, by the sweep.
    mutating func add(_ sweep: PageSweep, _ structure: [StructureProblem]) {
        pages = sweep.pages
        for problem in sweep.problems { add(problem) }
        unlisted += sweep.unlisted
        for problem in structure where !sweep.isDamaged(problem.page) { add(CheckProblem(problem.page, problem.text)) }
    }
}
