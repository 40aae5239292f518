import Foundation
import HoldfastCore

/// A small JSON object of the repository: keys in snake_case and sorted, so that equal records are equal bytes.
package protocol RepositoryRecord: Codable, Sendable, Equatable {
    var formatVersion: Int { get }
}

/// Reads and writes records. Bytes come from outside: size is bounded before, nesting by the decoder.
package enum RecordCoding {
    /// No record is longer, whatever the size of what it describes.
    package static let limitBytes = 4 << 20

    package static func encode(_ record: some Encodable) throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
        return [UInt8](try encoder.encode(record)) + [0x0A]
    }

    /// Throws `newerFormat` before it looks at anything else, and `damaged` with what is wrong.
    package static func decode<R: RepositoryRecord>(_ type: R.Type, _ bytes: [UInt8], at object: String) throws -> R {
        guard bytes.count <= limitBytes else {
            throw RepositoryError.damaged(object, why: "it is longer than \(limitBytes) bytes")
        }
        do {
            let decoder = JSONDecoder()
            let data = Data(bytes)
            let version = try decoder.decode(VersionOnly.self, from: data).formatVersion
            guard version <= RepositoryLayout.formatVersion else {
                throw RepositoryError.newerFormat(object, version: version)
            }
            guard version > 0 else { throw RepositoryError.damaged(object, why: "format_version is \(version)") }
            return try decoder.decode(type, from: data)
        } catch let error as RepositoryError {
            throw error
        } catch let error as DecodingError {
            throw RepositoryError.damaged(object, why: reason(error))
        } catch {
            throw RepositoryError.damaged(object, why: printable("\(error)", limit: 200))
        }
    }

    private struct VersionOnly: Decodable {
        let formatVersion: Int
        enum CodingKeys: String, CodingKey { case formatVersion = "format_version" }
    }

    private static func reason(_ error: DecodingError) -> String {
        func path(_ context: DecodingError.Context) -> String {
            let names = context.codingPath.map { printable($0.stringValue) }
            return names.isEmpty ? "" : " at \"" + names.joined(separator: ".") + "\""
        }
        return switch error {
        case .keyNotFound(let key, let context): "\"\(printable(key.stringValue))\" is missing" + path(context)
        case .typeMismatch(_, let context), .valueNotFound(_, let context):
            printable(context.debugDescription, limit: 160) + path(context)
        case .dataCorrupted(let context): printable(context.debugDescription, limit: 160) + path(context)
        @unknown default: "not valid JSON"
        }
    }
}
