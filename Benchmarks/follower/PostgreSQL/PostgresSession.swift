import CLibpq
import HoldfastTestSupport

/// A session of libpq, blocking; closed when it goes.
final class PostgresSession {
    private let connection: OpaquePointer

    init(socketDirectory: String, database: String) throws {
        let settings =
            "host=\(socketDirectory) port=\(PostgresNode.port) user=\(PostgresNode.superuser) dbname=\(database)"
        guard let connection = PQconnectdb(settings) else { throw NeverHappened(what: "libpq", errors: "no memory") }
        self.connection = connection
        guard PQstatus(connection) == CONNECTION_OK else { throw problem("a session") }
    }

    deinit { PQfinish(connection) }

    /// Runs one statement: its first value, or the number of rows that it changed; empty when it has neither.
    @discardableResult
    func value(_ statement: String) throws -> String {
        let result = PQexec(connection, statement)
        defer { PQclear(result) }
        switch PQresultStatus(result) {
        case PGRES_COMMAND_OK: return String(cString: PQcmdTuples(result))
        case PGRES_TUPLES_OK: return PQntuples(result) > 0 ? String(cString: PQgetvalue(result, 0, 0)) : ""
        default: throw problem(statement)
        }
    }

    private func problem(_ what: String) -> NeverHappened {
        NeverHappened(what: what, errors: String(cString: PQerrorMessage(connection)))
    }
}
