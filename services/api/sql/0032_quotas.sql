-- When the launcher decided on the delay that is shown: of two events the later one holds. NULL: of an earlier release.
ALTER TABLE attempts ADD COLUMN delayed_at timestamptz;

-- Live jobs by API key, which a quota counts.
CREATE INDEX jobs_live_by_key ON jobs (created_by) WHERE status IN ('SCHEDULED', 'RUNNING') AND created_by IS NOT NULL;

-- The launcher's last report of the quotas (QuotasReported), as JSON in UTF-8: one row.
CREATE TABLE reported_quotas (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    sequence bigint NOT NULL,
    report   bytea NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50);
