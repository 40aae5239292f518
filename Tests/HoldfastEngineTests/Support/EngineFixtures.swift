import Foundation
import Glibc
import HoldfastCore
import HoldfastTestSupport
import HoldfastWAL

@testable import HoldfastEngine

/// Small budgets and no threads: every I/O call happens where the test makes it happen.
func quietOptions(cachePages: Int = 4096, onFatal: @escaping @Sendable (any DiagnosableError) -> Void = { _ in })
    -> EngineOptions
{
    var options = EngineOptions(
        cacheBytes: cachePages * Page.bytes, versionBytes: 2048 * Page.bytes, transactionBytes: 4096 * Page.bytes,
        runsBackgroundWork: false)
    options.onFatal = onFatal
    return options
}

func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

extension Engine {
    /// Every record of every tree, as a reader of now sees them.
    func everything() throws -> [String: [[UInt8]: [UInt8]]] {
        try read { snapshot in try HoldfastEngineTests.everything(snapshot) }
    }

    /// The structure is sound, and every page is reachable once or free.
    func problems() throws -> [String] {
        try read { snapshot in
            try snapshot.operation { view in try StructureCheck.run(view).map { "\($0)" } }
        }
    }
}

func everything(_ snapshot: borrowing Snapshot) throws -> [String: [[UInt8]: [UInt8]]] {
    var all: [String: [[UInt8]: [UInt8]]] = [:]
    for tree in try snapshot.trees() {
        var records: [[UInt8]: [UInt8]] = [:]
        try snapshot.scan(tree.name) { key, value in
            records[Array(key)] = Array(value)
            return true
        }
        guard records.count == Int(tree.count) else {
            throw CountMismatch(tree: tree.name, scanned: records.count, counted: tree.count)
        }
        all[tree.name] = records
    }
    return all
}

struct CountMismatch: Error {
    let tree: String
    let scanned: Int
    let counted: UInt64
}

/// What an engine should hold: trees of records.
struct EngineModel: Equatable {
    var trees: [String: [[UInt8]: [UInt8]]] = [:]

    /// Values are compared as memory: the crash tests compare some gigabytes.
    static func == (a: EngineModel, b: EngineModel) -> Bool {
        a.trees.count == b.trees.count
            && a.trees.allSatisfy { name, records in
                guard let others = b.trees[name], others.count == records.count else { return false }
                return records.allSatisfy { key, value in
                    guard let other = others[key], other.count == value.count else { return false }
                    return value.withUnsafeBytes { left in
                        other.withUnsafeBytes { right in
                            guard let left = left.baseAddress, let right = right.baseAddress else { return true }
                            return memcmp(left, right, value.count) == 0
                        }
                    }
                }
            }
    }

    /// One random transaction, on engine and model alike. Keys from a small space, so that there is much to overwrite
    /// and delete; some values go to overflow chains.
    mutating func change(
        _ transaction: Transaction, _ random: inout HoldfastTestSupport.SeededGenerator, keys: Int = 400,
        operations: Int = 12, clears: Bool = true
    ) throws {
        for _ in 0..<Int.random(in: 1...operations, using: &random) {
            let tree = "t\(Int.random(in: 0..<3, using: &random))"
            let key = Self.key(Int.random(in: 0..<keys, using: &random))
            switch Int.random(in: 0..<100, using: &random) {
            case 0..<62:
                let value = Self.value(&random)
                let isNew = try transaction.put(tree, key, value)
                guard isNew == (trees[tree]?[key] == nil) else { throw Unexpected("put said isNew=\(isNew)") }
                trees[tree, default: [:]][key] = value
            case 62..<97:
                let was = try transaction.delete(tree, key)
                guard was == (trees[tree]?[key] != nil) else { throw Unexpected("delete said \(was)") }
                trees[tree]?[key] = nil
            case 97 where clears:
                try transaction.clear(tree)
                if trees[tree] != nil { trees[tree] = [:] }
            default:
                let value = try transaction.get(tree, key)
                guard value == trees[tree]?[key] else { throw Unexpected("get inside a transaction") }
            }
        }
    }

    static func key(_ n: Int) -> [UInt8] { bytes("user:\(String(repeating: "0", count: n % 7))\(n)") }

    static func value(_ random: inout HoldfastTestSupport.SeededGenerator) -> [UInt8] {
        let count =
            switch Int.random(in: 0..<50, using: &random) {
            case 0: Int.random(in: 8000...30_000, using: &random)
            case 1..<6: Int.random(in: 500...3000, using: &random)
            default: Int.random(in: 0...150, using: &random)
            }
        let seed = UInt8.random(in: 0...255, using: &random)
        return (0..<count).map { UInt8(truncatingIfNeeded: $0) ^ seed }
    }
}

struct Unexpected: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}
