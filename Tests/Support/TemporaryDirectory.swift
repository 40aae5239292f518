import Foundation

/// A directory that is removed, with all that is in it, when its owner goes.
public final class TemporaryDirectory: Sendable {
    public let path: String

    public init(_ prefix: String = "holdfast") throws {
        let base = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
        var template = Array("\(base)/\(prefix).XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw CannotMakeDirectory(code: errno) }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    public struct CannotMakeDirectory: Error { public let code: Int32 }

    deinit {
        try? FileManager.default.removeItem(atPath: path)
    }
}
