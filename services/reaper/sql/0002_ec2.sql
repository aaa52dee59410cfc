-- On EC2 an instance bears its deployment's and its launch's tag, not its attempt: whose it is comes from the
-- launcher's word alone, and an orphan is nobody's.
ALTER TABLE instances
    ALTER COLUMN job_id DROP NOT NULL,
    ALTER COLUMN attempt DROP NOT NULL,
    -- How much longer it lived than anybody needed it.
    ADD COLUMN leaked_seconds double precision;

-- What the cloud's own channel has said of instances, ours or not: each kind once for an instance. Told on as
-- InstanceInterrupted once we know whose the instance is, in whatever order both are heard.
CREATE TABLE notices (
    instance_id text NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('interruption', 'rebalance')),
    noticed_at  timestamptz NOT NULL,
    heard_at    timestamptz NOT NULL,
    told_at     timestamptz,
    PRIMARY KEY (instance_id, kind)
);
CREATE INDEX notices_untold ON notices (heard_at) WHERE told_at IS NULL;
CREATE INDEX notices_by_age ON notices (heard_at);
