import CLibpq
import Glibc
import HoldfastCore

/// One session with the catalog's PostgreSQL. Every call blocks, within the settings' bounds, whatever the other side
/// does: call it from a thread that may block. Used by one thread at a time.
///
/// libpq is driven without blocking and every wait is a `poll` with a deadline. A deadline that passes closes the
/// socket: a cancel request would need an answer from the same silent server. (Looking up a host name is the
/// resolver's and keeps the resolver's own bounds.)
package final class CatalogConnection {
    private let connection: OpaquePointer
    private let settings: CatalogSettings
    /// Never shown: taken out of any message before that goes on.
    private let secrets: [String]
    private var prepared: Set<String> = []
    private var isBroken = false
    /// `host:port/database`, without user or password.
    package let place: String

    /// Connects, logs in and bounds the session. Nothing is written.
    package init(_ settings: CatalogSettings) throws(CatalogError) {
        let password = try settings.password()
        let secrets = try Self.check(settings) + [password].compactMap { $0 }
        var keywords = ["dbname", "fallback_application_name", "client_encoding"]
        var values = [settings.uri, "holdfast", "UTF8"]
        if let password {
            keywords.append("password")
            values.append(password)
        }
        guard let connection = Self.start(keywords, values) else {
            throw .unreachable("catalog.uri", why: "out of memory")
        }
        let place = Self.place(of: connection)
        do throws(CatalogError) {
            try Self.connect(connection, settings, place: place, secrets: secrets)
        } catch {
            PQfinish(connection)
            throw error
        }
        self.connection = connection
        self.settings = settings
        self.secrets = secrets
        self.place = Self.place(of: connection)
        // All is set: from here on `deinit` closes the connection.
        guard PQserverVersion(connection) >= 140_000 else {
            throw .unsuitable(
                self.place, why: "PostgreSQL \(PQserverVersion(connection) / 10_000) is too old",
                next: "use PostgreSQL 14 or later")
        }
        // A wait for a lock ends before its statement does, so that it is told as what it is.
        let milliseconds = settings.statementTimeoutMilliseconds
        try run("session", [String(milliseconds), String(max(1, milliseconds * 9 / 10))])
    }

    deinit { PQfinish(connection) }

    /// 150004 for 15.4.
    package var serverVersion: Int { Int(PQserverVersion(connection)) }

    // MARK: statements

    /// Runs a statement of `sql/statements.sql`, prepared at its first use. Values travel as parameters only.
    @discardableResult
    func run(_ name: String, _ parameters: [String?] = []) throws(CatalogError) -> CatalogRows {
        if !prepared.contains(name) {
            _ = try exchange(name) { PQsendPrepare(connection, name, Statements.text(name), 0, nil) }
            prepared.insert(name)
        }
        for case let parameter? in parameters where parameter.utf8.contains(0) {
            throw .statement(name, sqlState: "22021", why: "a value holds a NUL")
        }
        let copies = parameters.map { $0.map { strdup($0)! } }
        defer { for copy in copies { free(copy) } }
        let pointers = copies.map { UnsafePointer<CChar>($0) }
        return try exchange(name) {
            PQsendQueryPrepared(connection, name, Int32(pointers.count), pointers, nil, nil, 0)
        }
    }

    /// Runs a script of Holdfast's own, several statements and no values.
    func run(script: String, name: String) throws(CatalogError) {
        _ = try exchange(name) { PQsendQuery(connection, script) }
    }

    /// `body` in one transaction, committed when it returns and rolled back when it throws.
    func transaction<R>(_ body: () throws(CatalogError) -> R) throws(CatalogError) -> R {
        try run("begin")
        let result: R
        do throws(CatalogError) {
            result = try body()
        } catch {
            // Its error is the one to report; a connection that cannot roll back any more has lost the transaction.
            if !isBroken { do { try run("rollback") } catch { isBroken = true } }
            throw error
        }
        try run("commit")
        return result
    }

    private func exchange(_ name: String, send: () -> Int32) throws(CatalogError) -> CatalogRows {
        guard !isBroken else { throw .unreachable(place, why: "the connection was given up before") }
        // The server ends the statement first, and says so; this bound is for a server that does not.
        let bound = settings.statementTimeoutMilliseconds + 1000
        let deadline = Deadline(milliseconds: bound)
        guard send() == 1 else { throw lost(name) }
        var unsent = PQflush(connection)
        while unsent == 1 {
            try wait(for: Int16(POLLIN | POLLOUT), until: deadline, doing: name, bound)
            guard PQconsumeInput(connection) == 1 else { throw lost(name) }
            unsent = PQflush(connection)
        }
        guard unsent == 0 else { throw lost(name) }
        var rows = CatalogRows(nil)
        var failure: CatalogError?
        while true {
            while PQisBusy(connection) == 1 {
                try wait(for: Int16(POLLIN), until: deadline, doing: name, bound)
                guard PQconsumeInput(connection) == 1 else { throw lost(name) }
            }
            guard let result = PQgetResult(connection) else { break }
            switch PQresultStatus(result) {
            case PGRES_COMMAND_OK, PGRES_TUPLES_OK: rows = CatalogRows(result)
            default:
                if failure == nil { failure = self.failure(of: result, name) }
                PQclear(result)
            }
        }
        if let failure { throw failure }
        return rows
    }

    private func wait(
        for events: Int16, until deadline: Deadline, doing name: String, _ bound: Int
    ) throws(CatalogError) {
        do throws(CatalogError) {
            try Self.wait(connection, events, deadline, place: place, doing: name, bound)
        } catch {
            isBroken = true
            throw error
        }
    }

    private func lost(_ name: String) -> CatalogError {
        isBroken = true
        return .unreachable(place, why: "\(name): " + Self.message(connection, hiding: secrets))
    }

    private func failure(of result: OpaquePointer, _ name: String) -> CatalogError {
        let field: (UnicodeScalar) -> String = { scalar in
            PQresultErrorField(result, Int32(scalar.value)).map { String(cString: $0) } ?? ""
        }
        let sqlState = field("C")
        // Only the primary message: details show values.
        let why = Self.tidy(field("M"), hiding: secrets)
        switch sqlState {
        case "":
            isBroken = true
            return .unreachable(place, why: Self.tidy(String(cString: PQresultErrorMessage(result)), hiding: secrets))
        case "42501": return .permission(place, why: why)
        case "55P03": return .locked(place, doing: name)
        case "57014": return .timedOut(place, doing: name, milliseconds: settings.statementTimeoutMilliseconds)
        case "25006":
            return .unsuitable(
                place, why: why, next: "point catalog.uri at the leader: target_session_attrs=read-write")
        case _ where sqlState.hasPrefix("08") || sqlState.hasPrefix("57P") || sqlState.hasPrefix("53"):
            isBroken = isBroken || PQstatus(connection) == CONNECTION_BAD
            return .unreachable(place, why: why)
        default: return .statement(name, sqlState: sqlState, why: why)
        }
    }
}

/// The rows of a result, as text. Owns the libpq result.
final class CatalogRows {
    private let result: OpaquePointer?
    init(_ result: OpaquePointer?) { self.result = result }
    deinit { if let result { PQclear(result) } }

    var count: Int { result.map { Int(PQntuples($0)) } ?? 0 }

    /// The value at `row`, `column`; `nil` for NULL.
    subscript(_ row: Int, _ column: Int) -> String? {
        guard let result, PQgetisnull(result, Int32(row), Int32(column)) == 0,
            let value = PQgetvalue(result, Int32(row), Int32(column))
        else { return nil }
        return String(cString: value)
    }
}
