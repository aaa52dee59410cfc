-- When each attempt is to start. Who has fired or was cancelled stays for a week: a cancellation that comes
-- before its JobScheduled is a row too (a tombstone, without due_at and requirements), and it wins.
CREATE TABLE timers (
    job_id       bigint NOT NULL,
    attempt      integer NOT NULL,
    state        text NOT NULL CHECK (state IN ('waiting', 'fired', 'cancelled')),
    due_at       timestamptz,
    -- What the attempt needs of its instance; carried on unread.
    requirements jsonb,
    trace        text,
    settled_at   timestamptz,
    PRIMARY KEY (job_id, attempt),
    CHECK ((state = 'waiting') = (settled_at IS NULL)),
    CHECK (state = 'cancelled' OR (due_at IS NOT NULL AND requirements IS NOT NULL
        AND trace IS NOT NULL))
);
-- "What is due, and when is the next?" costs the same however many have fired.
CREATE INDEX timers_waiting ON timers (due_at) WHERE state = 'waiting';
CREATE INDEX timers_settled ON timers (settled_at) WHERE settled_at IS NOT NULL;
