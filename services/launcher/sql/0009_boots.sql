-- What an operator can change so that instances boot again (LaunchesPaused.to_change).
ALTER TABLE pauses ADD COLUMN to_change text;

-- The pools of instances that have not booted lately, by their attempts: see services/launcher/failed_boots.py.
CREATE TABLE failed_boots (
    job_id        bigint NOT NULL,
    attempt       integer NOT NULL,
    instance_type text NOT NULL,
    zone          text NOT NULL,
    failed_at     timestamptz NOT NULL,
    PRIMARY KEY (job_id, attempt)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE INDEX failed_boots_by_time ON failed_boots (failed_at);
