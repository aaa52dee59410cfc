-- When the offers were last published with their prices, and when they are read again: one row, of all replicas. Who
-- holds lease_token reads them now, and has the row to itself until due_at.
CREATE TABLE pricing (
    only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    due_at      timestamptz NOT NULL,
    lease_token uuid,
    priced_at   timestamptz,
    -- How often in a row they could not be read.
    tries       integer NOT NULL DEFAULT 0
);
-- Where this is an upgrade, the API of the release before may run for a while yet: it cannot read the event.
INSERT INTO pricing (due_at)
SELECT CASE WHEN told > 0 THEN now() + interval '5 minutes' ELSE '1970-01-01T00:00:00Z' END FROM tellings;
