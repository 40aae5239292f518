/// The catalog's SQL as the binary carries it: the only copy of each statement.
package enum CatalogSQL {
    /// A numbered step of the schema, applied once, in one transaction.
    package struct Migration: Sendable {
        package let version: Int
        package let name: String
        package let text: String

        package init(version: Int, name: String, text: String) {
            self.version = version
            self.name = name
            self.text = text
        }
    }

    /// In order, without gaps, from 1.
    package static let migrations: [Migration] = [
        Migration(version: 1, name: "schema", text: text(PackageResources.m001_schema_sql)),
        Migration(version: 2, name: "views", text: text(PackageResources.m002_views_sql)),
    ]

    /// Roles and schema; run in every migration's transaction, before it.
    package static let prepare = text(PackageResources.prepare_sql)
    /// Run once after the migrations.
    package static let grants = text(PackageResources.grants_sql)
    /// Named statements: `-- name: x`, then the statement.
    package static let statements = text(PackageResources.statements_sql)

    private static func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }
}
