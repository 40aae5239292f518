import AsyncHTTPClient
import Foundation
import HoldfastCore
import NIOCore
import NIOSSL
import Synchronization

/// The few calls of etcd v3 that failover needs, through its JSON gateway (`/v3/…`, etcd 3.4 and later).
///
/// Endpoints are tried in turn, beginning with the one that answered last; each has `timeoutMilliseconds`, so that a call
/// ends after at most that times their number; one whose token etcd does not take any more logs in and is made again, which
/// triples that. A call that threw may have happened all the same: callers read the state again before they believe anything.
package final class EtcdClient: Sendable {
    private let endpoints: [String]
    private let timeout: TimeAmount
    private let http: HTTPClient
    private let preferred = Atomic(0)
    private let login: EtcdAccess.Login?
    /// What etcd gave for the login. It forgets it after some minutes without use, and when its users change.
    private let token = Mutex<String?>(nil)
    /// A cluster's nodes are few and their records short.
    private static let answerBytes = 4 << 20

    /// - Parameters:
    ///   - endpoints: `http://HOST:PORT` or `https://HOST:PORT`, at least one.
    ///   - access: how `https` is checked, and as whom this node comes.
    ///   - timeoutMilliseconds: for each endpoint in each call.
    package init(endpoints: [String], access: EtcdAccess, timeoutMilliseconds: Int) {
        precondition(!endpoints.isEmpty && timeoutMilliseconds > 0)
        self.endpoints = endpoints.map { $0.hasSuffix("/") ? String($0.dropLast()) : $0 }
        timeout = .milliseconds(Int64(timeoutMilliseconds))
        var options = HTTPClient.Configuration()
        options.timeout = .init(connect: timeout, read: timeout)
        // The client's own retries would exceed the bound.
        options.connectionPool.retryConnectionEstablishment = false
        options.tlsConfiguration = access.tls
        login = access.login
        http = HTTPClient(eventLoopGroupProvider: .singleton, configuration: options)
    }

    /// To be called before the last reference goes.
    package func close() async { try? await http.shutdown() }

    // MARK: Leases

    /// A new lease. etcd may make it longer than asked for, never shorter.
    package func grant(seconds: Int) async throws(EtcdError) -> Int64 {
        let answer = try await call("lease/grant", GrantRequest(TTL: seconds), GrantAnswer.self)
        guard let id = Int64(answer.ID), id != 0 else { throw .unexpectedAnswer("a lease without an ID") }
        return id
    }

    /// Begins the lease's time anew. Throws `leaseGone` when there is nothing to renew.
    package func keepAlive(_ lease: Int64) async throws(EtcdError) {
        let answer = try await call("lease/keepalive", LeaseRequest(ID: String(lease)), KeepAliveAnswer.self)
        guard let seconds = answer.result.TTL.flatMap({ Int($0) }), seconds > 0 else { throw .leaseGone }
    }

    /// Ends the lease, and removes what hangs on it at once.
    package func revoke(_ lease: Int64) async throws(EtcdError) {
        _ = try await call("lease/revoke", LeaseRequest(ID: String(lease)), EmptyAnswer.self)
    }

    // MARK: Keys

    /// Everything that begins with `prefix`, as one moment's state that includes every change that was answered before.
    package func read(prefix: String) async throws(EtcdError) -> EtcdState {
        let end = Array(prefix.utf8).dropLast() + [prefix.utf8.last! + 1]
        let answer = try await call(
            "kv/range", RangeRequest(key: EtcdBytes(prefix), range_end: EtcdBytes(Array(end))), RangeAnswer.self)
        var state = EtcdState(revision: Int64(answer.header.revision ?? "0") ?? 0, entries: [:])
        for pair in answer.kvs ?? [] { state.entries[String(decoding: pair.key.bytes, as: UTF8.self)] = pair.entry }
        return state
    }

    /// Carries out all of `changes` if all of `conditions` hold, and nothing otherwise.
    /// - Returns: whether they held.
    package func transaction(
        _ conditions: [EtcdCondition], _ changes: [EtcdChange]
    ) async throws(EtcdError) -> Bool {
        let request = TransactionRequest(
            compare: conditions.map(TransactionRequest.Comparison.init),
            success: changes.map(TransactionRequest.Operation.init))
        do throws(EtcdError) {
            return try await call("kv/txn", request, TransactionAnswer.self).succeeded ?? false
        } catch .refused(code: 5, _) {
            // Not found: of all that a transaction names only a lease must exist.
            throw .leaseGone
        }
    }

    package func put(_ key: String, _ value: [UInt8], lease: Int64? = nil) async throws(EtcdError) {
        _ = try await transaction([], [.put(key, value, lease: lease)])
    }

    package func remove(_ key: String) async throws(EtcdError) { _ = try await transaction([], [.remove(key)]) }

    // MARK: HTTP

    private func call<Answer: Decodable>(
        _ method: String, _ request: some Encodable, _ answer: Answer.Type
    ) async throws(EtcdError) -> Answer {
        guard let login else { return try await callOnce(method, request, answer, token: nil) }
        if let token = token.withLock({ $0 }) {
            do throws(EtcdError) {
                return try await callOnce(method, request, answer, token: token)
            } catch .refused(let code, let text) where Self.isStale(code, text) {
                self.token.withLock { $0 = nil }
            }
        }
        let new = try await callOnce(
            "auth/authenticate", AuthenticateRequest(name: login.user, password: login.password),
            AuthenticateAnswer.self, token: nil
        ).token
        token.withLock { $0 = new }
        return try await callOnce(method, request, answer, token: new)
    }

    /// Whether etcd does not know the token any more, or knows it from before its users changed.
    private static func isStale(_ code: Int, _ text: String) -> Bool {
        code == 16 || code == 3 && text.contains("auth store is old")
    }

    private func callOnce<Answer: Decodable>(
        _ method: String, _ request: some Encodable, _: Answer.Type, token: String?
    ) async throws(EtcdError) -> Answer {
        guard let body = try? JSONEncoder().encode(request) else { throw .unexpectedAnswer("a request without JSON") }
        let first = preferred.load(ordering: .relaxed)
        var reasons: [String] = []
        for turn in 0..<endpoints.count {
            let index = (first + turn) % endpoints.count
            do {
                let (status, bytes) = try await post(endpoints[index] + "/v3/" + method, body, token)
                if status >= 500 || status == 429 {
                    // This member has no leader, or is on its way down: another may do better.
                    reasons.append("\(endpoints[index]): HTTP status \(status)")
                    continue
                }
                preferred.store(index, ordering: .relaxed)
                return try Self.answer(status, bytes)
            } catch let error as EtcdError {
                throw error
            } catch {
                reasons.append("\(endpoints[index]): \(printable("\(error)", limit: 200))")
            }
        }
        throw .unreachable(reasons)
    }

    private func post(_ url: String, _ body: Data, _ token: String?) async throws -> (status: Int, body: Data) {
        var request = HTTPClientRequest(url: url)
        request.method = .POST
        request.headers.add(name: "content-type", value: "application/json")
        if let token { request.headers.add(name: "authorization", value: token) }
        request.body = .bytes(body)
        let response = try await http.execute(request, timeout: timeout)
        let buffer = try await response.body.collect(upTo: Self.answerBytes)
        return (Int(response.status.code), Data(buffer.readableBytesView))
    }

    private static func answer<Answer: Decodable>(_ status: Int, _ body: Data) throws(EtcdError) -> Answer {
        if let failure = try? JSONDecoder().decode(FailureAnswer.self, from: body) {
            throw .refused(code: failure.code ?? 0, failure.error)
        }
        // Words without JSON around them.
        if status == 400, let text = String(data: body.prefix(200), encoding: .utf8), text.contains("CommonName") {
            throw .refused(code: 0, text)
        }
        guard status == 200, let answer = try? JSONDecoder().decode(Answer.self, from: body) else {
            throw .unexpectedAnswer("HTTP status \(status), \(String(decoding: body.prefix(200), as: UTF8.self))")
        }
        return answer
    }
}
