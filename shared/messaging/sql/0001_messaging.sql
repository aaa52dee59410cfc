-- Every service has these three tables in its own schema.

-- Facts on their way out. A row is written in the transaction that made the fact true, and counts as sent
-- only when the broker has confirmed it. Sent rows are kept for a while as the trace of what was told.
CREATE TABLE outbox (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id     uuid NOT NULL,
    name         text NOT NULL,
    body         bytea NOT NULL,
    created_at   timestamptz NOT NULL,
    lease_until  timestamptz,
    lease_token  uuid,
    published_at timestamptz
);
-- The relay reads only what is unsent, so its cost does not grow with the trace.
CREATE INDEX outbox_unsent ON outbox (id) WHERE published_at IS NULL;
CREATE INDEX outbox_sent ON outbox (published_at) WHERE published_at IS NOT NULL;

-- Events that have taken effect here: the second delivery of one finds its row and stops.
CREATE TABLE inbox (
    event_id   uuid PRIMARY KEY,
    name       text NOT NULL,
    handled_at timestamptz NOT NULL
);
CREATE INDEX inbox_handled ON inbox (handled_at);

-- Events whose handler failed, and what could not be read at all. 'waiting' is tried again when due;
-- 'dead' waits for a person.
CREATE TABLE parked (
    event_id  uuid PRIMARY KEY,
    name      text NOT NULL,
    raw       bytea NOT NULL,
    state     text NOT NULL CHECK (state IN ('waiting', 'dead')),
    tries     integer NOT NULL,
    error     text NOT NULL,
    parked_at timestamptz NOT NULL,
    due_at    timestamptz NOT NULL
);
CREATE INDEX parked_due ON parked (due_at) WHERE state = 'waiting';
