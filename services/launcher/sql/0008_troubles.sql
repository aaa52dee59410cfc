-- What an operator can change so that the launch passes: the launch waits for a fault of the deployment (Misconfigured).
ALTER TABLE launches ADD COLUMN to_change text;
CREATE INDEX launches_to_change ON launches (to_change) WHERE to_change IS NOT NULL AND settled_at IS NULL;

-- The faults for which launches wait now, one row for each thing to change, of all replicas: see services/launcher/troubles.py.
CREATE TABLE troubles (
    to_change text PRIMARY KEY,
    -- The cloud's latest message.
    message   text NOT NULL,
    launches  bigint NOT NULL,
    since     timestamptz NOT NULL,
    seen_at   timestamptz NOT NULL,
    -- From when on it is logged as an error again.
    alert_at  timestamptz NOT NULL
);
