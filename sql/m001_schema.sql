-- The catalog of a fleet: what its repositories hold. The repositories are the source of truth; everything here
-- but events, restores and nodes can be read from them again (`holdfast catalog rebuild`).

COMMENT ON SCHEMA holdfast IS 'Holdfast: catalog of clusters, their backups and their archived WAL';

CREATE TABLE holdfast.schema_migration (
    version     integer     PRIMARY KEY CHECK (version > 0),
    name        text        NOT NULL,
    sha256      text        NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    applied_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    applied_by  text        NOT NULL DEFAULT session_user
);
COMMENT ON TABLE holdfast.schema_migration IS 'The numbered migrations that made this schema';
COMMENT ON COLUMN holdfast.schema_migration.sha256 IS 'SHA-256 of the migration''s text: the same number must mean the same schema';

CREATE DOMAIN holdfast.object_name AS text CHECK (VALUE ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$');
COMMENT ON DOMAIN holdfast.object_name IS 'Name of a cluster, node or backup: safe as a file name and on a terminal';

CREATE TABLE holdfast.cluster (
    name              holdfast.object_name PRIMARY KEY,
    system_identifier bigint      NOT NULL CHECK (system_identifier > 0),
    format_version    integer     NOT NULL CHECK (format_version > 0),
    recorded_at       timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE holdfast.cluster IS 'A data directory lineage: one name, one system identifier, one repository folder';
COMMENT ON COLUMN holdfast.cluster.format_version IS 'Version of the repository''s layout';

CREATE TABLE holdfast.node (
    cluster        holdfast.object_name NOT NULL REFERENCES holdfast.cluster ON UPDATE CASCADE ON DELETE CASCADE,
    name           holdfast.object_name NOT NULL,
    role           text        NOT NULL CHECK (role IN ('leader', 'follower', 'stopped')),
    address        text,
    data_directory text,
    timeline       bigint      CHECK (timeline BETWEEN 1 AND 4294967295),
    lsn            pg_lsn,
    seen_at        timestamptz NOT NULL,
    PRIMARY KEY (cluster, name)
);
COMMENT ON TABLE holdfast.node IS 'The servers of a cluster, as they last reported';
COMMENT ON COLUMN holdfast.node.lsn IS 'Durable end of the node''s log when it was last seen';

CREATE TABLE holdfast.backup (
    cluster       holdfast.object_name NOT NULL REFERENCES holdfast.cluster ON UPDATE CASCADE ON DELETE CASCADE,
    id            holdfast.object_name NOT NULL,
    type          text        NOT NULL CHECK (type IN ('full', 'incr')),
    -- No foreign key: facts arrive in any order, and a parent may be given up. backup_chain shows broken links.
    parent        holdfast.object_name,
    state         text        NOT NULL CHECK (state IN ('started', 'complete', 'abandoned', 'removed')),
    timeline      bigint      CHECK (timeline BETWEEN 1 AND 4294967295),
    start_lsn     pg_lsn,
    stop_lsn      pg_lsn,
    wal_first     text        CHECK (wal_first ~ '^[0-9A-F]{24}$'),
    wal_last      text        CHECK (wal_last ~ '^[0-9A-F]{24}$'),
    started_at    timestamptz,
    finished_at   timestamptz,
    pages         bigint      CHECK (pages >= 0),
    bytes         bigint      CHECK (bytes >= 0),
    archive_bytes bigint      CHECK (archive_bytes >= 0),
    recorded_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (cluster, id),
    CONSTRAINT backup_parent_of_incremental CHECK ((type = 'incr') = (parent IS NOT NULL)),
    CONSTRAINT backup_stop_not_before_start CHECK (stop_lsn >= start_lsn),
    CONSTRAINT backup_complete_is_whole CHECK (state <> 'complete'
        OR num_nulls(timeline, start_lsn, stop_lsn, started_at, finished_at, pages, bytes, archive_bytes) = 0)
);
COMMENT ON TABLE holdfast.backup IS 'Base backups of a cluster, given-up ones included: an id is never used twice';
COMMENT ON COLUMN holdfast.backup.state IS
    'started: being taken, or cut off; complete: can be restored; abandoned: never finished; removed: given up after it was complete';
COMMENT ON COLUMN holdfast.backup.start_lsn IS 'Redo point of the checkpoint taken at the start: replay begins here';
COMMENT ON COLUMN holdfast.backup.stop_lsn IS 'Replay must reach this before the backup is consistent';
COMMENT ON COLUMN holdfast.backup.bytes IS 'Bytes of the files backed up; archive_bytes is what they take in the repository';
CREATE INDEX backup_by_position ON holdfast.backup (cluster, timeline, start_lsn) WHERE state = 'complete';
CREATE INDEX backup_by_parent ON holdfast.backup (cluster, parent) WHERE parent IS NOT NULL;

CREATE TABLE holdfast.backup_archive (
    cluster holdfast.object_name NOT NULL,
    backup  holdfast.object_name NOT NULL,
    path    text   NOT NULL CHECK (path <> ''),
    bytes   bigint NOT NULL CHECK (bytes >= 0),
    sha256  text   NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    PRIMARY KEY (cluster, backup, path),
    FOREIGN KEY (cluster, backup) REFERENCES holdfast.backup ON UPDATE CASCADE ON DELETE CASCADE
);
COMMENT ON TABLE holdfast.backup_archive IS 'The archive files of a backup';
COMMENT ON COLUMN holdfast.backup_archive.path IS 'Relative to the cluster''s folder in the repository';

CREATE TABLE holdfast.timeline (
    cluster    holdfast.object_name NOT NULL REFERENCES holdfast.cluster ON UPDATE CASCADE ON DELETE CASCADE,
    timeline   bigint NOT NULL CHECK (timeline BETWEEN 1 AND 4294967295),
    parent     bigint CHECK (parent BETWEEN 1 AND 4294967295),
    switch_lsn pg_lsn,
    PRIMARY KEY (cluster, timeline),
    CONSTRAINT timeline_parent_is_older CHECK (parent < timeline),
    CONSTRAINT timeline_parent_and_switch CHECK ((parent IS NULL) = (switch_lsn IS NULL))
);
COMMENT ON TABLE holdfast.timeline IS 'The branches of a cluster''s history, from the history files in its repository';
COMMENT ON COLUMN holdfast.timeline.switch_lsn IS 'Where this timeline left its parent';

CREATE TABLE holdfast.wal_range (
    cluster        holdfast.object_name NOT NULL,
    timeline       bigint  NOT NULL,
    start_lsn      pg_lsn  NOT NULL,
    end_lsn        pg_lsn  NOT NULL,
    last_commit_at timestamptz,
    PRIMARY KEY (cluster, timeline, start_lsn),
    UNIQUE (cluster, timeline, end_lsn),
    FOREIGN KEY (cluster, timeline) REFERENCES holdfast.timeline ON UPDATE CASCADE ON DELETE CASCADE,
    CONSTRAINT wal_range_not_empty CHECK (end_lsn > start_lsn)
);
COMMENT ON TABLE holdfast.wal_range IS
    'Archived WAL without a gap, from start_lsn up to and not including end_lsn; the size of this table follows gaps, not segments';
COMMENT ON COLUMN holdfast.wal_range.last_commit_at IS 'Time of the last commit in the range, where the archive knows it';

CREATE TABLE holdfast.restore (
    id              uuid PRIMARY KEY,
    cluster         holdfast.object_name NOT NULL,
    backup          holdfast.object_name,
    target          text NOT NULL,
    target_timeline text,
    host            text,
    data_directory  text,
    outcome         text NOT NULL CHECK (outcome IN ('started', 'unpacked', 'recovered', 'failed')),
    started_at      timestamptz,
    finished_at     timestamptz,
    bytes           bigint CHECK (bytes >= 0),
    pages           bigint CHECK (pages >= 0),
    reported_at     timestamptz NOT NULL
);
COMMENT ON TABLE holdfast.restore IS
    'Restores made from the repository. No foreign keys: this is history and outlives what it names';
CREATE INDEX restore_by_cluster ON holdfast.restore (cluster, reported_at);

CREATE TABLE holdfast.event (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    fact        uuid   NOT NULL UNIQUE,
    cluster     holdfast.object_name NOT NULL,
    kind        text   NOT NULL CHECK (kind ~ '^[a-z][a-z_]{0,30}$'),
    object      holdfast.object_name NOT NULL,
    found       boolean NOT NULL,
    detail      jsonb  NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(detail) = 'object'),
    occurred_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE holdfast.event IS
    'One row for each fact delivered, written in the fact''s own transaction: the unique fact makes delivery happen exactly once';
COMMENT ON COLUMN holdfast.event.found IS 'Whether the object was in the repository when the fact was delivered';
CREATE INDEX event_by_cluster ON holdfast.event (cluster, occurred_at);
