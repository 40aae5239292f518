-- What operators ask, as views.

CREATE FUNCTION holdfast.segment_start(lsn pg_lsn) RETURNS numeric
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN (lsn - '0/0'::pg_lsn) - (lsn - '0/0'::pg_lsn) % 16777216;
COMMENT ON FUNCTION holdfast.segment_start(pg_lsn) IS 'Position of the first byte of the 16 MiB segment that holds lsn';

CREATE VIEW holdfast.backup_chain AS
WITH RECURSIVE chain AS (
    SELECT cluster, id, id AS link, parent, state, ARRAY[id::text] AS links
    FROM holdfast.backup
    UNION ALL
    -- A loop of parents, which nothing honest writes, ends where it began.
    SELECT chain.cluster, chain.id, up.id, up.parent, up.state, up.id::text || chain.links
    FROM chain
    JOIN holdfast.backup up ON up.cluster = chain.cluster AND up.id = chain.parent AND up.id::text <> ALL (chain.links)
)
SELECT DISTINCT ON (chain.cluster, chain.id)
    chain.cluster, chain.id AS backup, backup.type, chain.links, cardinality(chain.links) AS length,
    -- An incremental of a removed parent is still whole: the parent's objects stay while a chain needs them.
    chain.parent IS NULL AND backup.state = 'complete' AND NOT EXISTS (
        SELECT FROM chain broken
        WHERE broken.cluster = chain.cluster AND broken.id = chain.id AND broken.state IN ('started', 'abandoned')
    ) AS whole,
    chain.parent AS missing
FROM chain
JOIN holdfast.backup ON backup.cluster = chain.cluster AND backup.id = chain.id
ORDER BY chain.cluster, chain.id, cardinality(chain.links) DESC;
COMMENT ON VIEW holdfast.backup_chain IS 'For each backup the backups that a restore of it reads, the full one first; missing names a lost parent';

CREATE VIEW holdfast.wal_gap AS
SELECT cluster, timeline, after_lsn, start_lsn AS before_lsn, start_lsn - after_lsn AS bytes
FROM (
    SELECT cluster, timeline, start_lsn,
        lag(end_lsn) OVER (PARTITION BY cluster, timeline ORDER BY start_lsn) AS after_lsn
    FROM holdfast.wal_range
) AS ranges
WHERE after_lsn < start_lsn;
COMMENT ON VIEW holdfast.wal_gap IS 'WAL that is missing between two archived ranges of a timeline: no target in or behind it without a later backup';

CREATE VIEW holdfast.recovery_window AS
WITH RECURSIVE reach AS (
    SELECT backup.cluster, backup.id, backup.stop_lsn, backup.finished_at, backup.timeline,
        backup.stop_lsn AS fork_from, wal.end_lsn, wal.last_commit_at
    FROM holdfast.backup
    JOIN holdfast.backup_chain ON backup_chain.cluster = backup.cluster AND backup_chain.backup = backup.id
    JOIN holdfast.wal_range wal ON wal.cluster = backup.cluster AND wal.timeline = backup.timeline
        AND wal.start_lsn <= backup.start_lsn AND wal.end_lsn >= backup.stop_lsn
    WHERE backup.state = 'complete' AND backup_chain.whole
    UNION ALL
    -- Over a fork: the old timeline's archive must reach the switch point's segment, which the new timeline holds.
    SELECT reach.cluster, reach.id, reach.stop_lsn, reach.finished_at, child.timeline,
        child.switch_lsn, wal.end_lsn, coalesce(wal.last_commit_at, reach.last_commit_at)
    FROM reach
    JOIN holdfast.timeline child ON child.cluster = reach.cluster AND child.parent = reach.timeline
        AND child.switch_lsn >= reach.fork_from
        AND holdfast.segment_start(child.switch_lsn) <= reach.end_lsn - '0/0'::pg_lsn
    JOIN holdfast.wal_range wal ON wal.cluster = child.cluster AND wal.timeline = child.timeline
        AND wal.start_lsn <= child.switch_lsn AND wal.end_lsn >= child.switch_lsn
)
SELECT cluster, timeline, count(*) AS backups,
    (array_agg(id ORDER BY stop_lsn, id))[1] AS earliest_backup,
    min(stop_lsn) AS earliest_lsn,
    (array_agg(finished_at ORDER BY stop_lsn, id))[1] AS earliest_at,
    end_lsn AS latest_lsn,
    max(last_commit_at) AS latest_at
FROM reach
GROUP BY cluster, timeline, end_lsn
ORDER BY cluster, timeline, earliest_lsn;
COMMENT ON VIEW holdfast.recovery_window IS
    'From where to where a cluster can be restored on each timeline; one row for each stretch without a gap';

CREATE VIEW holdfast.cluster_health AS
SELECT cluster.name AS cluster, cluster.system_identifier,
    backups.complete AS backups, backups.last_full_at, backups.last_backup_at,
    gaps.count AS wal_gaps, ranges.timeline, ranges.archived_lsn, last_event.last_event_at,
    array_remove(ARRAY[
        CASE WHEN backups.complete = 0 THEN 'no complete backup' END,
        CASE WHEN backups.complete > 0 AND NOT EXISTS (
                SELECT FROM holdfast.recovery_window WHERE recovery_window.cluster = cluster.name)
            THEN 'no backup has all the WAL it needs' END,
        CASE WHEN backups.broken > 0 THEN backups.broken || ' backups without their parents' END,
        CASE WHEN gaps.count > 0 THEN gaps.count || ' gaps in the archived WAL' END
    ], NULL) AS problems
FROM holdfast.cluster
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE state = 'complete') AS complete,
        count(*) FILTER (WHERE state = 'complete' AND NOT whole) AS broken,
        max(finished_at) FILTER (WHERE state = 'complete' AND backup.type = 'full') AS last_full_at,
        max(finished_at) FILTER (WHERE state = 'complete') AS last_backup_at
    FROM holdfast.backup
    JOIN holdfast.backup_chain ON backup_chain.cluster = backup.cluster AND backup_chain.backup = backup.id
    WHERE backup.cluster = cluster.name
) AS backups
CROSS JOIN LATERAL (SELECT count(*) FROM holdfast.wal_gap WHERE wal_gap.cluster = cluster.name) AS gaps
LEFT JOIN LATERAL (
    SELECT wal_range.timeline, wal_range.end_lsn AS archived_lsn FROM holdfast.wal_range
    WHERE wal_range.cluster = cluster.name ORDER BY wal_range.timeline DESC, wal_range.end_lsn DESC LIMIT 1
) AS ranges ON true
CROSS JOIN LATERAL (
    SELECT max(occurred_at) AS last_event_at FROM holdfast.event WHERE event.cluster = cluster.name
) AS last_event;
COMMENT ON VIEW holdfast.cluster_health IS 'One row for each cluster: what it has, and what is wrong; no problems means an empty array';
