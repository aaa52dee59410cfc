-- Who did what, from where and when: one row for each job and act. Only ever added to: the API's own role may change no
-- row, and remove only what is older than 30 days (DOCKER_JOB_KEEP_AUDIT_DAYS).
CREATE TABLE audit (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL,
    action   text NOT NULL,
    key      text,            -- the prefix of the API key; NULL: there was none, or a command on the machine did it
    key_name text,
    project  text,            -- that of the key
    address  text NOT NULL,   -- of the client; 'local command'; empty: unknown
    job_id   bigint,          -- the job's row may be removed since
    subject  text             -- what else it was done to: a key's prefix, an event's id
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX audit_by_job ON audit (job_id, id) WHERE job_id IS NOT NULL;
CREATE INDEX audit_by_time ON audit USING brin (at);

-- The owner of the table, who migrates, is not bound by this.
CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_user = TG_TABLE_SCHEMA AND (TG_OP = 'UPDATE' OR OLD.at > now() - interval '30 days') THEN
        RAISE EXCEPTION 'the audit trail is append-only: % of row % is refused', TG_OP, OLD.id;
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION refuse_audit_change();
