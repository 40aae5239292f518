-- Run after the migrations, every time, as the schema's owner: who may do what. A role that is missing is left out;
-- the next `migrate` grants what was left out.
DO $$
DECLARE
    readers text;
BEGIN
    REVOKE ALL ON ALL TABLES IN SCHEMA holdfast FROM PUBLIC;

    SELECT string_agg(quote_ident(rolname), ', ') INTO readers
    FROM pg_roles WHERE rolname IN ('holdfast_agent', 'holdfast_reader');
    IF readers IS NOT NULL THEN
        EXECUTE 'GRANT USAGE ON SCHEMA holdfast TO ' || readers;
        EXECUTE 'GRANT SELECT ON ALL TABLES IN SCHEMA holdfast TO ' || readers;
        EXECUTE 'GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA holdfast TO ' || readers;
    END IF;

    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'holdfast_agent') THEN
        GRANT INSERT, UPDATE, DELETE
            ON holdfast.node, holdfast.backup, holdfast.backup_archive, holdfast.timeline, holdfast.wal_range
            TO holdfast_agent;
        -- A cluster and what happened to it stay: only the owner forgets them.
        GRANT INSERT, UPDATE ON holdfast.cluster, holdfast.restore TO holdfast_agent;
        GRANT INSERT ON holdfast.event TO holdfast_agent;
    END IF;
END
$$;
