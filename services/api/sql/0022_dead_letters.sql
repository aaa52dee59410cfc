-- The last report of each service's dead letters (DeadLettersReported), its letters as JSON in UTF-8: one row a service.
CREATE TABLE reported_dead_letters (
    service     text PRIMARY KEY,
    sequence    bigint NOT NULL,
    reported_at timestamptz NOT NULL,
    total       bigint NOT NULL,
    letters     bytea NOT NULL
);
-- Written at each change while events fail: old versions, up to 300 kB each, must go at once.
ALTER TABLE reported_dead_letters SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50);
