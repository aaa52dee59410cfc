-- True if no agent on its instance has ever claimed the attempt; NULL if it booted, or of an earlier release.
ALTER TABLE attempts ADD COLUMN boot_failed boolean;

-- The end of what an instance that did not boot, or ended by itself, has printed on its console.
CREATE TABLE attempt_consoles (
    job_id  bigint NOT NULL REFERENCES jobs ON DELETE CASCADE,
    attempt integer NOT NULL,
    output  text NOT NULL,
    PRIMARY KEY (job_id, attempt)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

-- The failed boots in a row, of all jobs, and the pause of launching that follows: one row, of all replicas.
CREATE TABLE launch_breaker (
    only_row     boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    -- Since an agent last claimed a job, and of which jobs (the first few).
    failures     integer NOT NULL DEFAULT 0,
    job_ids      bigint[] NOT NULL DEFAULT '{}',
    -- Pauses in a row, and the number of the last LaunchesPaused or LaunchesResumed.
    pauses       integer NOT NULL DEFAULT 0,
    sequence     bigint NOT NULL DEFAULT 0,
    paused_at    timestamptz,
    paused_until timestamptz,
    message      text,
    CHECK ((paused_at IS NULL) = (paused_until IS NULL))
);
INSERT INTO launch_breaker DEFAULT VALUES;
