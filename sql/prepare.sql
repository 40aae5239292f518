-- Run before the migrations, every time, by whoever migrates: the group roles and the schema.
-- Roles belong to the whole server and need CREATEROLE; without it the catalog works all the same, owned by
-- the user who migrates, and `migrate` names the roles that are missing.
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['holdfast_owner', 'holdfast_agent', 'holdfast_reader'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
            EXCEPTION
                WHEN insufficient_privilege THEN NULL;
                -- Another database of this server is being migrated at the same moment.
                WHEN duplicate_object OR unique_violation THEN NULL;
            END;
        END IF;
    END LOOP;

    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'holdfast_owner')
        AND NOT pg_has_role(current_user, 'holdfast_owner', 'MEMBER')
    THEN
        BEGIN
            EXECUTE format('GRANT holdfast_owner TO %I', current_user);
        EXCEPTION WHEN insufficient_privilege THEN NULL;
        END;
    END IF;

    IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'holdfast') THEN
        IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'holdfast_owner')
            AND pg_has_role(current_user, 'holdfast_owner', 'MEMBER')
        THEN
            CREATE SCHEMA holdfast AUTHORIZATION holdfast_owner;
        ELSE
            CREATE SCHEMA holdfast;
        END IF;
    END IF;
END
$$;

-- What the migrations make belongs to the schema's owner, whichever member of it migrates.
SELECT set_config('role', rolname, true)
FROM pg_namespace JOIN pg_roles ON pg_roles.oid = nspowner
WHERE nspname = 'holdfast' AND rolname <> current_user AND pg_has_role(current_user, nspowner, 'MEMBER');
