-- Until when the API and its database are known to have answered agents: one row, of all replicas.
CREATE TABLE availability (
    only_row       boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    answered_until timestamptz NOT NULL
);
-- Agents were answered at their last heartbeat: the time of this upgrade is no silence of theirs.
INSERT INTO availability (answered_until)
SELECT max(heartbeat_at) FROM attempts HAVING max(heartbeat_at) IS NOT NULL;

-- The times in which agents could not be answered. They do not count as an agent's silence.
CREATE TABLE outages (
    began_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    PRIMARY KEY (ended_at, began_at)
);

ALTER TABLE attempts
    -- When the API recorded the launch: an instance that it did not know of could not be awaited.
    ADD COLUMN launch_recorded_at timestamptz;
