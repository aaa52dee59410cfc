-- What users see of a job's changes: status, attempt, phase and reason. The statement that changes the job writes them
-- here, and a reader moves them on to job_changes, where they have a position in the order of commits: a row of a
-- transaction that commits late gets a later position, and no reader skips it.
CREATE TABLE new_job_changes (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id  bigint NOT NULL,
    at      timestamptz NOT NULL,
    status  text NOT NULL,
    attempt integer NOT NULL,
    phase   text NOT NULL,
    reason  text NOT NULL
);
-- For the removal of a job's record.
CREATE INDEX new_job_changes_by_job ON new_job_changes (job_id);
-- Each row is deleted within seconds: its pages and index entries must be used again at once.
ALTER TABLE new_job_changes SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

CREATE TABLE job_changes (
    position bigint PRIMARY KEY,
    job_id   bigint NOT NULL,
    at       timestamptz NOT NULL,
    status   text NOT NULL,
    attempt  integer NOT NULL,
    phase    text NOT NULL,
    reason   text NOT NULL
);
-- For the removal of a job's record.
CREATE INDEX job_changes_by_job ON job_changes (job_id);
ALTER TABLE job_changes SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_vacuum_insert_threshold = 10000);

-- The last position, and the last one that was deleted: one row, whose lock orders the numbering. A missing one is
-- made, with another epoch: positions of another epoch mean nothing (a restored database has other ones).
CREATE TABLE job_change_counter (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    epoch    text NOT NULL DEFAULT left(gen_random_uuid()::text, 8),
    position bigint NOT NULL DEFAULT 0,
    pruned   bigint NOT NULL DEFAULT 0
);
ALTER TABLE job_change_counter SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 100);
INSERT INTO job_change_counter DEFAULT VALUES;
