import CLibpq
import Glibc
import HoldfastCore

/// A moment of the monotonic clock.
struct Deadline {
    private let nanoseconds: Int64
    init(milliseconds: Int) { nanoseconds = Self.now() + Int64(milliseconds) * 1_000_000 }

    /// What is left, for `poll`; 0 when it has passed.
    var millisecondsLeft: Int32 { Int32(clamping: max(0, (nanoseconds - Self.now() + 999_999) / 1_000_000)) }

    private static func now() -> Int64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }
}

extension CatalogConnection {
    /// Refuses a connection string that libpq cannot read. Returns the passwords in it, to be hidden.
    static func check(_ settings: CatalogSettings) throws(CatalogError) -> [String] {
        let uri = settings.uri
        guard !uri.isEmpty, !uri.utf8.contains(0) else { throw .settings("it is empty or holds a NUL") }
        // libpq takes a string without `=` and without a scheme for a database's name.
        guard uri.contains("=") || uri.hasPrefix("postgresql://") || uri.hasPrefix("postgres://") else {
            throw .settings("it is neither a URI nor a list of keyword=value")
        }
        var message: UnsafeMutablePointer<CChar>?
        guard let options = PQconninfoParse(uri, &message) else {
            defer { PQfreemem(message) }
            throw .settings(withoutQuotes(message.map { String(cString: $0) } ?? "out of memory"))
        }
        defer { PQconninfoFree(options) }
        var secrets: [String] = []
        var option = options
        while let keyword = option.pointee.keyword {
            if let value = option.pointee.val, ["password", "sslpassword"].contains(String(cString: keyword)) {
                secrets.append(String(cString: value))
            }
            option += 1
        }
        return secrets
    }

    static func start(_ keywords: [String], _ values: [String]) -> OpaquePointer? {
        let keywords = keywords.map { strdup($0) }
        let values = values.map { strdup($0) }
        defer { for copy in keywords + values { free(copy) } }
        // NULL ends both lists.
        let names = keywords.map { UnsafePointer<CChar>($0) } + [nil]
        let texts = values.map { UnsafePointer<CChar>($0) } + [nil]
        return PQconnectStartParams(names, texts, 1)
    }

    /// Drives the connection from `start` to a log-in, within the settings' bound.
    static func connect(
        _ connection: OpaquePointer, _ settings: CatalogSettings, place: String, secrets: [String]
    ) throws(CatalogError) {
        // Messages bear their SQLSTATE, which does not change with the server's language.
        PQsetErrorVerbosity(connection, PQERRORS_VERBOSE)
        PQsetNoticeReceiver(connection, { _, _ in }, nil)
        let bound = settings.connectTimeoutMilliseconds
        let deadline = Deadline(milliseconds: bound)
        if PQstatus(connection) == CONNECTION_BAD {
            let why = message(connection, hiding: secrets)
            let isContact = why.contains("connection to server") || why.contains("could not translate host name")
            throw isContact ? .unreachable(place, why: why) : .settings(withoutQuotes(why))
        }
        var state = PGRES_POLLING_WRITING
        while state != PGRES_POLLING_OK {
            switch state {
            case PGRES_POLLING_READING:
                try wait(connection, Int16(POLLIN), deadline, place: place, doing: "connecting", bound)
            case PGRES_POLLING_WRITING:
                try wait(connection, Int16(POLLOUT), deadline, place: place, doing: "connecting", bound)
            default: throw loginFailure(connection, place: place, secrets: secrets)
            }
            state = PQconnectPoll(connection)
        }
        PQsetErrorVerbosity(connection, PQERRORS_DEFAULT)
        guard PQsetnonblocking(connection, 1) == 0 else {
            throw .unreachable(place, why: message(connection, hiding: secrets))
        }
    }

    private static func loginFailure(_ connection: OpaquePointer, place: String, secrets: [String]) -> CatalogError {
        let full = PQerrorMessage(connection).map { String(cString: $0) } ?? ""
        let why = message(connection, hiding: secrets)
        if PQconnectionNeedsPassword(connection) == 1 { return .refused(place, why: "it asks for a password") }
        // `FATAL:  28P01: password authentication failed for user "x"`
        let codes = full.split(separator: " ").compactMap { word -> Substring? in
            let code = word.dropLast()
            return word.hasSuffix(":") && code.utf8.count == 5
                && code.utf8.allSatisfy { (48...57).contains($0) || (65...90).contains($0) } ? code : nil
        }
        if codes.contains(where: { $0.hasPrefix("28") || $0 == "42501" }) { return .refused(place, why: why) }
        if codes.contains("3D000") {
            return .unsuitable(place, why: why, next: "create the database, or correct its name in catalog.uri")
        }
        return .unreachable(place, why: why)
    }

    /// Waits until the socket is ready; throws when the deadline passes first.
    static func wait(
        _ connection: OpaquePointer, _ events: Int16, _ deadline: Deadline, place: String, doing: String, _ bound: Int
    ) throws(CatalogError) {
        while true {
            var descriptor = pollfd(fd: PQsocket(connection), events: events, revents: 0)
            guard descriptor.fd >= 0 else { throw .unreachable(place, why: "the connection is closed") }
            let ready = poll(&descriptor, 1, deadline.millisecondsLeft)
            // An error on the socket counts as ready: libpq's next call reports it.
            if ready > 0 { return }
            if ready == 0 { throw .timedOut(place, doing: doing, milliseconds: bound) }
            guard errno == EINTR else { throw .unreachable(place, why: String(cString: strerror(errno))) }
        }
    }

    /// `host:port/database` of the session, or what is known of it.
    static func place(of connection: OpaquePointer) -> String {
        let text: (UnsafeMutablePointer<CChar>?) -> String = { $0.map { printable(String(cString: $0)) } ?? "" }
        let host = text(PQhost(connection))
        guard !host.isEmpty else { return "catalog.uri" }
        return "\(host):\(text(PQport(connection)))/\(text(PQdb(connection)))"
    }

    static func message(_ connection: OpaquePointer, hiding secrets: [String]) -> String {
        tidy(PQerrorMessage(connection).map { String(cString: $0) } ?? "", hiding: secrets)
    }

    /// One printable line without secrets and without the server's source positions.
    static func tidy(_ message: String, hiding secrets: [String]) -> String {
        var lines = message.split(whereSeparator: \.isNewline).filter { !$0.hasPrefix("LOCATION:") }.map(String.init)
        if lines.isEmpty { lines = ["the connection was closed"] }
        // libpq indents its own hints with a tab.
        var text = lines.map { $0.replacing("\t", with: "") }.joined(separator: "; ")
        for secret in secrets where !secret.isEmpty { text = text.split(separator: secret).joined(separator: "…") }
        // Quotes are the server's; `printable` would double them.
        return text.split(separator: "\"", omittingEmptySubsequences: false).map { printable($0, limit: 400) }
            .joined(separator: "\"")
    }

    /// libpq quotes the part of a connection string that it stumbles over, and that may be the password.
    private static func withoutQuotes(_ message: String) -> String {
        let parts = message.split(separator: "\"", omittingEmptySubsequences: false)
        let kept = parts.enumerated().map { $0.offset % 2 == 0 ? String($0.element) : "…" }
        return tidy(kept.joined(separator: "\""), hiding: [])
    }
}
