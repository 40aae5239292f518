-- Every statement that Holdfast runs against the catalog, once each; `-- name:` begins one.
-- Parameters are text; times travel as microseconds since 1970 in UTC.

-- name: session
SELECT set_config('search_path', '', false),
    set_config('statement_timeout', $1, false),
    set_config('lock_timeout', $2, false),
    -- The repository is read inside transactions: longer than a statement, but not for ever.
    set_config('idle_in_transaction_session_timeout', '600000', false),
    set_config('client_min_messages', 'warning', false),
    -- A fact leaves the outbox when its commit returns, so the commit must be durable by then.
    set_config('synchronous_commit',
        CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END,
        false)

-- name: begin
BEGIN ISOLATION LEVEL READ COMMITTED

-- name: commit
COMMIT

-- name: rollback
ROLLBACK

-- name: lock_migrations
SELECT pg_advisory_xact_lock(1212961350, 0)

-- name: lock_cluster
-- Class, then cluster: two names of one hash wait for each other, which is harmless.
SELECT pg_advisory_xact_lock(1212961351, hashtext($1))

-- name: has_schema
-- Not to_regclass: its cache may still say "no" right after the wait for another migrator's lock.
SELECT EXISTS (SELECT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = 'holdfast' AND relname = 'schema_migration')

-- name: schema_version
SELECT coalesce(max(version), 0) FROM holdfast.schema_migration

-- name: applied_migrations
SELECT version, name, sha256 FROM holdfast.schema_migration ORDER BY version

-- name: digest
SELECT encode(sha256(convert_to($1, 'UTF8')), 'hex')

-- name: record_migration
INSERT INTO holdfast.schema_migration (version, name, sha256)
VALUES ($1::integer, $2, encode(sha256(convert_to($3, 'UTF8')), 'hex'))

-- name: missing_roles
SELECT wanted FROM unnest(ARRAY['holdfast_owner', 'holdfast_agent', 'holdfast_reader']) AS wanted
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted)

-- name: has_event
SELECT EXISTS (SELECT FROM holdfast.event WHERE fact = $1::uuid)

-- name: insert_event
INSERT INTO holdfast.event (fact, cluster, kind, object, found, detail, occurred_at)
VALUES ($1::uuid, $2, $3, $4, $5::boolean, $6::jsonb, 'epoch'::timestamptz + $7::bigint * interval '1 microsecond')

-- name: upsert_cluster
-- Returns no row when the name is taken by a cluster with another system identifier.
INSERT INTO holdfast.cluster AS c (name, system_identifier, format_version)
VALUES ($1, $2::bigint, $3::integer)
ON CONFLICT (name) DO UPDATE SET format_version = excluded.format_version
WHERE c.system_identifier = excluded.system_identifier
RETURNING system_identifier

-- name: cluster_identifier
SELECT system_identifier FROM holdfast.cluster WHERE name = $1

-- name: upsert_backup
INSERT INTO holdfast.backup (cluster, id, type, parent, state, timeline, start_lsn, stop_lsn, wal_first, wal_last,
    started_at, finished_at, pages, bytes, archive_bytes)
VALUES ($1, $2, $3, $4, $5, $6::bigint, $7::pg_lsn, $8::pg_lsn, $9, $10,
    'epoch'::timestamptz + $11::bigint * interval '1 microsecond',
    'epoch'::timestamptz + $12::bigint * interval '1 microsecond', $13::bigint, $14::bigint, $15::bigint)
ON CONFLICT (cluster, id) DO UPDATE SET type = excluded.type, parent = excluded.parent, state = excluded.state,
    timeline = excluded.timeline, start_lsn = excluded.start_lsn, stop_lsn = excluded.stop_lsn,
    wal_first = excluded.wal_first, wal_last = excluded.wal_last, started_at = excluded.started_at,
    finished_at = excluded.finished_at, pages = excluded.pages, bytes = excluded.bytes,
    archive_bytes = excluded.archive_bytes, recorded_at = clock_timestamp()

-- name: delete_backup
DELETE FROM holdfast.backup WHERE cluster = $1 AND id = $2

-- name: list_backups
SELECT id FROM holdfast.backup WHERE cluster = $1

-- name: delete_archives
DELETE FROM holdfast.backup_archive WHERE cluster = $1 AND backup = $2

-- name: insert_archive
INSERT INTO holdfast.backup_archive (cluster, backup, path, bytes, sha256) VALUES ($1, $2, $3, $4::bigint, $5)

-- name: upsert_timeline
INSERT INTO holdfast.timeline (cluster, timeline, parent, switch_lsn)
VALUES ($1, $2::bigint, $3::bigint, $4::pg_lsn)
ON CONFLICT (cluster, timeline) DO UPDATE SET parent = excluded.parent, switch_lsn = excluded.switch_lsn

-- name: delete_timeline
DELETE FROM holdfast.timeline WHERE cluster = $1 AND timeline = $2::bigint

-- name: list_timelines
SELECT timeline FROM holdfast.timeline WHERE cluster = $1

-- name: list_ranges
SELECT start_lsn, end_lsn, (extract(epoch FROM last_commit_at) * 1000000)::bigint
FROM holdfast.wal_range WHERE cluster = $1 AND timeline = $2::bigint ORDER BY start_lsn

-- name: delete_range
DELETE FROM holdfast.wal_range WHERE cluster = $1 AND timeline = $2::bigint AND start_lsn = $3::pg_lsn

-- name: insert_range
INSERT INTO holdfast.wal_range (cluster, timeline, start_lsn, end_lsn, last_commit_at)
VALUES ($1, $2::bigint, $3::pg_lsn, $4::pg_lsn, 'epoch'::timestamptz + $5::bigint * interval '1 microsecond')

-- name: upsert_node
INSERT INTO holdfast.node AS n (cluster, name, role, address, data_directory, timeline, lsn, seen_at)
VALUES ($1, $2, $3, $4, $5, $6::bigint, $7::pg_lsn, 'epoch'::timestamptz + $8::bigint * interval '1 microsecond')
ON CONFLICT (cluster, name) DO UPDATE SET role = excluded.role, address = excluded.address,
    data_directory = excluded.data_directory, timeline = excluded.timeline, lsn = excluded.lsn,
    seen_at = excluded.seen_at
WHERE n.seen_at <= excluded.seen_at

-- name: upsert_restore
INSERT INTO holdfast.restore AS r (id, cluster, backup, target, target_timeline, host, data_directory, outcome,
    started_at, finished_at, bytes, pages, reported_at)
VALUES ($1::uuid, $2, $3, $4, $5, $6, $7, $8, 'epoch'::timestamptz + $9::bigint * interval '1 microsecond',
    'epoch'::timestamptz + $10::bigint * interval '1 microsecond', $11::bigint, $12::bigint,
    'epoch'::timestamptz + $13::bigint * interval '1 microsecond')
ON CONFLICT (id) DO UPDATE SET backup = excluded.backup, outcome = excluded.outcome,
    finished_at = excluded.finished_at, bytes = excluded.bytes, pages = excluded.pages,
    reported_at = excluded.reported_at
WHERE r.reported_at <= excluded.reported_at

-- name: fleet_windows
SELECT cluster, timeline, backups, earliest_backup, earliest_lsn,
    to_char(earliest_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), latest_lsn,
    to_char(latest_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
FROM holdfast.recovery_window ORDER BY cluster, timeline, earliest_lsn

-- name: fleet_health
SELECT cluster, system_identifier, backups,
    to_char(last_full_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    to_char(last_backup_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    wal_gaps, timeline, archived_lsn, array_to_string(problems, '; ')
FROM holdfast.cluster_health ORDER BY cluster
