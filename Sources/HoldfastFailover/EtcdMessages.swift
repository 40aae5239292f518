// Properties are named as the messages of etcd name their fields.
// swift-format-ignore-file: AlwaysUseLowerCamelCase

import Foundation

/// Keys below a prefix at one revision.
package struct EtcdState: Sendable, Equatable {
    package struct Entry: Sendable, Equatable {
        package var value: [UInt8]
        package var createRevision: Int64
        package var modRevision: Int64
        /// 0: none.
        package var lease: Int64
    }
    package var revision: Int64
    package var entries: [String: Entry]
}

/// What must hold for a transaction's changes to be carried out.
package enum EtcdCondition: Sendable, Equatable {
    case isAbsent(String)
    /// The last change of the key was at this revision; 0: there is no such key.
    case isUnchanged(String, since: Int64)
    /// The key that stands there was made at this revision.
    case isTheOne(String, madeAt: Int64)
}

package enum EtcdChange: Sendable, Equatable {
    case put(String, [UInt8], lease: Int64?)
    case remove(String)
}

// The gateway's JSON is protobuf's: names in its `.proto` files, bytes in base64, 64-bit integers as decimal strings, and
// a field with its type's zero left out.

struct EtcdBytes: Codable {
    var bytes: [UInt8]

    init(_ bytes: [UInt8]) { self.bytes = bytes }
    init(_ text: String) { bytes = Array(text.utf8) }

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        guard let data = Data(base64Encoded: try container.decode(String.self)) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "no base64")
        }
        bytes = Array(data)
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(Data(bytes).base64EncodedString())
    }
}

struct Header: Decodable { var revision: String? }
struct EmptyAnswer: Decodable {}
struct FailureAnswer: Decodable {
    var error: String
    var code: Int?
}

struct AuthenticateRequest: Encodable { var name, password: String }
struct AuthenticateAnswer: Decodable { var token: String }

struct GrantRequest: Encodable { var TTL: Int }
struct GrantAnswer: Decodable { var ID: String }
struct LeaseRequest: Encodable { var ID: String }
struct KeepAliveAnswer: Decodable {
    struct Result: Decodable { var TTL: String? }
    var result: Result
}

struct RangeRequest: Encodable { var key, range_end: EtcdBytes }
struct RangeAnswer: Decodable {
    struct Pair: Decodable {
        var key: EtcdBytes
        var value: EtcdBytes?
        var create_revision, mod_revision, lease: String?

        var entry: EtcdState.Entry {
            func number(_ text: String?) -> Int64 { text.flatMap { Int64($0) } ?? 0 }
            return EtcdState.Entry(
                value: value?.bytes ?? [], createRevision: number(create_revision), modRevision: number(mod_revision),
                lease: number(lease))
        }
    }
    var header: Header
    var kvs: [Pair]?
}

struct TransactionRequest: Encodable {
    struct Comparison: Encodable {
        var result = "EQUAL"
        var target: String
        var key: EtcdBytes
        var create_revision, mod_revision: String?

        init(_ condition: EtcdCondition) {
            switch condition {
            case .isAbsent(let key): (target, self.key, create_revision) = ("CREATE", EtcdBytes(key), "0")
            case .isTheOne(let key, let revision):
                (target, self.key, create_revision) = ("CREATE", EtcdBytes(key), String(revision))
            case .isUnchanged(let key, let revision):
                (target, self.key, mod_revision) = ("MOD", EtcdBytes(key), String(revision))
            }
        }
    }

    struct Put: Encodable {
        var key, value: EtcdBytes
        var lease: String?
    }
    struct Remove: Encodable { var key: EtcdBytes }

    struct Operation: Encodable {
        var request_put: Put?
        var request_delete_range: Remove?

        init(_ change: EtcdChange) {
            switch change {
            case .put(let key, let value, let lease):
                request_put = Put(key: EtcdBytes(key), value: EtcdBytes(value), lease: lease.map { String($0) })
            case .remove(let key): request_delete_range = Remove(key: EtcdBytes(key))
            }
        }
    }

    var compare: [Comparison]
    var success: [Operation]
}

struct TransactionAnswer: Decodable { var succeeded: Bool? }
