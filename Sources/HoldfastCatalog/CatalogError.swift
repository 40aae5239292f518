import HoldfastCore

/// What the catalog refuses or fails at. None of it ever stops a backup: facts wait in the outbox.
package enum CatalogError: DiagnosableError, Equatable {
    /// The URI, the service file or an option in them cannot be used; nothing was contacted.
    case settings(String)
    /// The password file cannot be used: path and reason.
    case passwordFile(String, why: String)
    /// Nobody answers, or not as PostgreSQL does. Place, reason.
    case unreachable(String, why: String)
    /// Password, certificate or role refused.
    case refused(String, why: String)
    /// The server is there and the database, or what Holdfast needs of it, is not.
    case unsuitable(String, why: String, next: String)
    /// No answer within the bound; the connection is given up.
    case timedOut(String, doing: String, milliseconds: Int)
    /// Another session holds the lock.
    case locked(String, doing: String)
    /// A role lacks a privilege.
    case permission(String, why: String)
    /// The schema was made by a newer Holdfast.
    case newerSchema(found: Int, known: Int)
    /// The schema is missing or older than this Holdfast writes.
    case olderSchema(found: Int, known: Int)
    /// A migration was applied with other text than this binary carries.
    case otherMigration(version: Int, name: String)
    /// The name is taken by a cluster with another system identifier.
    case otherCluster(name: String, catalog: String, repository: String)
    /// The server refused a statement: statement, SQLSTATE, reason.
    case statement(String, sqlState: String, why: String)
    /// A name that may not be one; nothing was written.
    case name(Diagnosis)
    /// A file of the outbox cannot be read or written.
    case outbox(operation: String, path: String, errno: Int32)
    /// A fact written by a newer Holdfast.
    case newerFact(path: String, version: Int)
    /// The repository could not be read for a fact.
    case source(Diagnosis)

    /// The connection is of no more use, and so is trying further facts now.
    var isAboutConnection: Bool {
        switch self {
        case .settings, .passwordFile, .unreachable, .refused, .timedOut: true
        default: false
        }
    }

    package var diagnosis: Diagnosis {
        switch self {
        case .settings(let why):
            Diagnosis(
                "the catalog's address cannot be used", at: "catalog.uri", why: why,
                next:
                    "write it as postgresql://USER@HOST:PORT/DATABASE, see PostgreSQL's chapter on connection strings",
                status: .configuration)
        case .passwordFile(let path, let why):
            Diagnosis(
                "the catalog's password file cannot be used", at: printable(path, limit: 400), why: why,
                next: "make it a file with the password in one line, mode 0600, owned by the user who runs holdfast",
                status: .configuration)
        case .unreachable(let place, let why):
            Diagnosis(
                "the catalog cannot be reached", at: place, why: why,
                next: "nothing is lost: facts wait in the outbox; see that PostgreSQL runs and answers there",
                status: .unavailable)
        case .refused(let place, let why):
            Diagnosis(
                "the catalog refuses the login", at: place, why: why,
                next: "correct the user in catalog.uri, or the password in catalog.password_file or PGPASSFILE",
                status: .permission)
        case .unsuitable(let place, let why, let next):
            Diagnosis("the catalog cannot be used", at: place, why: why, next: next, status: .configuration)
        case .timedOut(let place, let doing, let milliseconds):
            Diagnosis(
                "the catalog does not answer", at: place, why: "\(doing) took longer than \(milliseconds) ms",
                next: "nothing is lost: facts wait in the outbox; see what keeps PostgreSQL busy",
                status: .unavailable)
        case .locked(let place, let doing):
            Diagnosis(
                "the catalog is in use", at: place, why: "another session holds what \(doing) needs",
                next: "try again when the other holdfast has finished", status: .tryAgain)
        case .permission(let place, let why):
            Diagnosis(
                "the catalog denies permission", at: place, why: why,
                next: "migrate as a member of holdfast_owner; deliver as a member of holdfast_agent",
                status: .permission)
        case .newerSchema(let found, let known):
            Diagnosis(
                "the catalog's schema is newer than this holdfast", at: "holdfast.schema_migration",
                why: "it has version \(found), and this binary knows versions up to \(known)",
                next: "upgrade holdfast on this host", status: .dataError)
        case .olderSchema(let found, let known):
            Diagnosis(
                found == 0 ? "the catalog has no schema yet" : "the catalog's schema is older than this holdfast",
                at: "holdfast.schema_migration", why: "it has version \(found), and this binary needs \(known)",
                next: "run holdfast catalog migrate", status: .configuration)
        case .otherMigration(let version, let name):
            Diagnosis(
                "the catalog's schema was made otherwise", at: "migration \(version) (\(printable(name)))",
                why: "its text is not what this binary carries", next: "use the release that made the schema",
                status: .dataError)
        case .otherCluster(let name, let catalog, let repository):
            Diagnosis(
                "the catalog knows another cluster by this name", at: printable(name),
                why: "its system identifier there is \(printable(catalog)), in the repository \(repository)",
                next: "give one of them another name, or delete the old one from holdfast.cluster",
                status: .dataError)
        case .statement(let name, let sqlState, let why):
            Diagnosis(
                "the catalog refuses a statement", at: name, why: "\(why) (SQLSTATE \(sqlState))",
                next: "look at the server's log; holdfast catalog rebuild writes everything anew",
                status: sqlState.hasPrefix("22") || sqlState.hasPrefix("23") ? .dataError : .internalError)
        case .name(let diagnosis), .source(let diagnosis): diagnosis
        case .outbox(let operation, let path, let errno):
            DiskError(operation: operation, path: path, errno: errno).diagnosis
        case .newerFact(let path, let version):
            Diagnosis(
                "a fact in the outbox was written by a newer holdfast", at: printable(path, limit: 400),
                why: "it has version \(version), and this binary knows version \(Fact.version)",
                next: "upgrade holdfast on this host", status: .dataError)
        }
    }
}
