-- Consoles to read again after the end of their instances: EC2 posts a console minutes after it.
CREATE TABLE console_reads (
    instance_id text PRIMARY KEY,
    -- Reads that were begun.
    tries       integer NOT NULL DEFAULT 0,
    due_at      timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE INDEX console_reads_due ON console_reads (due_at);

-- True if it was read while its instance ended by itself: EC2 may have posted a part of it only, or nothing (then the
-- output is empty). A longer one that is read later takes its place.
ALTER TABLE consoles ADD COLUMN early boolean NOT NULL DEFAULT false;
-- Of the whole console, of which the end is kept.
ALTER TABLE consoles ADD COLUMN characters integer NOT NULL DEFAULT 0;
