import HoldfastCore
import HoldfastTestSupport
import HoldfastWAL
import Synchronization
import Testing

@testable import HoldfastEngine

@Suite("With --verify-wal a redo that gives another page never reaches the log")
struct RedoVerifierTests {
    /// How the planted redo goes wrong.
    enum Plant: CaseIterable, Sendable {
        /// One byte behind the header of a difference.
        case differenceByte
        /// One byte of an image's hole, which is to be zero.
        case imageHole
        /// An image that is not carried out.
        case imageLeftOut
        /// A difference that is taken for done.
        case differenceSkipped
        /// A change that cannot be applied.
        case refused

        var words: String {
            switch self {
            case .differenceByte: "the first difference is at byte 24: "
            case .imageHole, .imageLeftOut: "the first difference is at byte "
            case .differenceSkipped: "redo takes the old version for the new one"
            case .refused: "redo cannot apply the change"
            }
        }

        func redo(_ change: PageChange, _ page: UnsafeMutableRawPointer, _ end: LSN) throws -> Bool {
            func flip(_ offset: Int) {
                let byte = page.load(fromByteOffset: offset, as: UInt8.self)
                page.storeBytes(of: byte ^ 1, toByteOffset: offset, as: UInt8.self)
            }
            switch self {
            case .imageLeftOut where change.isImage: return true
            case .differenceSkipped where !change.isImage: return false
            case .refused: throw EngineError.notPaused
            default: break
            }
            let isApplied = try apply(change, to: page, commitEnd: end)
            if self == .differenceByte, !change.isImage { flip(24) }
            if self == .imageHole, change.isImage, Page(page).lower < Page(page).upper { flip(Page(page).lower) }
            return isApplied
        }
    }

    @Test(
        "B8: redo gives another page than the leader had: nothing of it is logged, acknowledged or seen, and the engine stops",
        arguments: Plant.allCases)
    func caught(plant: Plant) throws {
        let disk = try CrashTests.initialized(seed: 8)
        let isPlanted = Atomic(false), fatal = Mutex<[String]>([])
        var options = quietOptions(onFatal: { error in fatal.withLock { $0.append("\(error.diagnosis.status)") } })
        options.verifiesRedo = true
        options.redo = { change, page, end in
            isPlanted.load(ordering: .relaxed)
                ? try plant.redo(change, page, end) : try apply(change, to: page, commitEnd: end)
        }
        let engine = try Engine(opening: disk, options: options)
        _ = try engine.write { try $0.put("t", bytes("a"), bytes("1")) }
        if plant == .imageHole || plant == .imageLeftOut { try engine.checkpoint() }
        let end = engine.appendedLSN
        isPlanted.store(true, ordering: .relaxed)
        let error = #expect(throws: EngineError.self) { try engine.write { try $0.put("t", bytes("b"), bytes("2")) } }
        guard case .redoDiffers(let page, let behind, let why) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(behind == end)
        #expect(why.contains(plant.words), "\(why)")
        let text = error?.description ?? ""
        for word in ["page \(page)", "\(end)", "not logged"] { #expect(text.contains(word), "\(word): \(text)") }
        #expect(error?.diagnosis.status == .internalError)
        // Told once, and nothing is accepted any more; what was is there.
        #expect(fatal.withLock { $0 } == ["internalError"])
        isPlanted.store(false, ordering: .relaxed)
        #expect(throws: EngineError.self) { try engine.write { try $0.put("t", bytes("c"), bytes("3")) } }
        #expect(engine.appendedLSN == end)
        #expect(try engine.everything() == ["t": [bytes("a"): bytes("1")]])
        engine.abandon()
        let again = try Engine(opening: disk.afterKill(seed: 9), options: quietOptions())
        #expect(try again.everything() == ["t": [bytes("a"): bytes("1")]])
        #expect(try again.problems() == [])
    }

    @Test("B8: what ends the process says so in one line, with status 70")
    func endsTheProcess() async throws {
        let result = await #expect(processExitsWith: .exitCode(70), observing: [\.standardErrorContent]) {
            let disk = try CrashTests.initialized(seed: 8)
            var options = EngineOptions(cacheBytes: 1 << 20, runsBackgroundWork: false)
            options.verifiesRedo = true
            options.redo = { change, page, end in try Plant.differenceByte.redo(change, page, end) }
            let engine = try Engine(opening: disk, options: options)
            try engine.write { _ = try $0.put("t", bytes("a"), bytes("1")) }
            try engine.write { _ = try $0.put("t", bytes("b"), bytes("2")) }
        }
        let text = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        let line = text.split(separator: "\n").filter { $0.hasPrefix("holdfast: fatal: redo of page") }
        #expect(line.count == 1 && line.first?.contains("hint: ") == true, "\(text)")
    }

    @Test("B8: a right redo is never blamed: splits, merges, chains, clears, checkpoints, reuse of freed pages")
    func rightRedo() throws {
        let seed = SeededGenerator64.announced("verified redo")
        let disk = try CrashTests.initialized(seed: seed)
        let compared = Atomic(0)
        var options = quietOptions(onFatal: { Issue.record("\($0)") })
        options.verifiesRedo = true
        options.redo = { change, page, end in
            compared.add(1, ordering: .relaxed)
            return try apply(change, to: page, commitEnd: end)
        }
        let engine = try Engine(opening: disk, options: options)
        var random = SeededGenerator64(seed: seed)
        var model = EngineModel()
        for round in 0..<300 {
            try engine.write { try model.change($0, &random) }
            if round % 37 == 36 { try engine.checkpoint() }
            if round % 61 == 60 { try engine.reclaim(pages: 8) }
        }
        #expect(compared.load(ordering: .relaxed) > 600)
        #expect(try engine.everything().filter { !$0.value.isEmpty } == model.trees.filter { !$0.value.isEmpty })
        try engine.close()
    }

    @Test("without it no redo is carried out at a commit")
    func off() throws {
        let disk = try CrashTests.initialized(seed: 8)
        var options = quietOptions()
        options.redo = { _, _, _ in throw EngineError.notPaused }
        let engine = try Engine(opening: disk, options: options)
        _ = try engine.write { try $0.put("t", bytes("a"), bytes("1")) }
        #expect(engine.verifier == nil)
        try engine.close()
    }
}
