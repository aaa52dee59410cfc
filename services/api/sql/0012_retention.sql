-- For how many days finished jobs and their logs are kept if no setting says otherwise: one row. NULL: for ever. So a
-- deployment that has had jobs or keys before loses nothing by an upgrade.
CREATE TABLE retention (
    only_row  boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    jobs_days integer CHECK (jobs_days > 0),
    logs_days integer CHECK (logs_days > 0)
);
INSERT INTO retention (jobs_days, logs_days)
SELECT CASE WHEN NOT used THEN 90 END, CASE WHEN NOT used THEN 30 END
FROM (SELECT (SELECT is_called FROM jobs_id_seq) OR EXISTS (SELECT FROM jobs)
          OR EXISTS (SELECT FROM api_keys) AS used) AS found;

-- Jobs are removed once their logs are, so each finished job is in one of the two indexes.
ALTER TABLE jobs ADD COLUMN logs_removed_at timestamptz;
CREATE INDEX jobs_with_logs ON jobs (finished_at, id)
    WHERE finished_at IS NOT NULL AND logs_removed_at IS NULL;
CREATE INDEX jobs_without_logs ON jobs (finished_at, id) WHERE logs_removed_at IS NOT NULL;
CREATE INDEX idempotency_keys_by_job ON idempotency_keys (job_id);

-- What the removed jobs were and cost, by the day (UTC) on which they finished.
CREATE TABLE daily_totals (
    day            date NOT NULL,
    status         text NOT NULL,
    jobs           bigint NOT NULL,
    attempts       bigint NOT NULL,
    interruptions  bigint NOT NULL,
    billed_seconds bigint NOT NULL,
    cost_usd       numeric NOT NULL,
    -- Attempts with an instance whose cost is not known; cost_usd is without them.
    unknown_costs  bigint NOT NULL,
    -- The newest of the removed jobs: an event about an older one that is missing is a late one.
    last_job_id    bigint NOT NULL,
    PRIMARY KEY (day, status)
);
CREATE INDEX daily_totals_by_job ON daily_totals (last_job_id);
