-- The agents that processes of the API serve or served, by the SHA-256 that user data names: an instance may boot
-- while another release replaces the one that launched it. current_at: when a process last had it as its own.
CREATE TABLE agent_builds (
    sha256          text PRIMARY KEY CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    content         bytea NOT NULL,
    first_served_at timestamptz NOT NULL,
    current_at      timestamptz NOT NULL
);
-- A few rows, of which each process updates one each hour.
ALTER TABLE agent_builds SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50);
-- When the attempt's instance was launched, by the cloud; null: it is not known, or an earlier release recorded it.
ALTER TABLE attempts ADD COLUMN launched_at timestamptz;
