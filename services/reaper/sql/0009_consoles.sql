-- What an instance that did not boot, or ended by itself, has printed last; or in brackets why that is not known.
CREATE TABLE consoles (
    instance_id text PRIMARY KEY,
    output      text NOT NULL,
    read_at     timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE INDEX consoles_by_age ON consoles (read_at);

ALTER TABLE ended_attempts ADD COLUMN boot_failed boolean NOT NULL DEFAULT false;
-- Its console is read before it is terminated.
ALTER TABLE instances ADD COLUMN boot_failed boolean NOT NULL DEFAULT false;
