-- Which capacity runs each attempt, and how far its launch has come. A cancellation that comes before its
-- InstanceRequested is a row too (a tombstone: 'cancelled', without requirements), and it wins.
CREATE TABLE launches (
    job_id        bigint NOT NULL,
    attempt       integer NOT NULL,
    state         text NOT NULL
        CHECK (state IN ('wanted', 'asked', 'launched', 'refused', 'cancelled')),
    -- The attempt has ended or was cancelled: a launch under way is finished, told, and ended by the reaper.
    unwanted      boolean NOT NULL DEFAULT false,
    requirements  jsonb,
    trace         text,
    -- The offer made now, from 1; the next comes only after a definite refusal of this one.
    offer         integer NOT NULL DEFAULT 1,
    -- The idempotency key and the exact parameters of the call, committed before the cloud is asked.
    launch_token  text,
    params        jsonb,
    asked_at      timestamptz,
    -- A call with this token may have had an effect that nobody has heard of.
    uncertain     boolean NOT NULL DEFAULT false,
    -- When a sweep takes this row next. A claim moves it to its lease's end: who holds lease_token has the
    -- row to itself until then.
    due_at        timestamptz,
    lease_token   uuid,
    -- The last answer that was no instance, how often in a row it came, and when it was last told.
    reason        text,
    tries         integer NOT NULL DEFAULT 0,
    delay_told_at timestamptz,
    last_error    text,
    instance_id   text,
    launched_at   timestamptz,
    told          bigint,
    settled_at    timestamptz,
    PRIMARY KEY (job_id, attempt),
    CHECK ((state IN ('wanted', 'asked')) = (due_at IS NOT NULL)),
    CHECK ((state IN ('wanted', 'asked')) = (settled_at IS NULL)),
    CHECK (state = 'cancelled' OR (requirements IS NOT NULL AND trace IS NOT NULL)),
    CHECK (state NOT IN ('asked', 'launched') OR (launch_token IS NOT NULL AND params IS NOT NULL
        AND asked_at IS NOT NULL)),
    CHECK ((state = 'launched') = (told IS NOT NULL))
);
CREATE INDEX launches_due ON launches (due_at) WHERE state IN ('wanted', 'asked');
CREATE INDEX launches_asked ON launches (asked_at) WHERE state = 'asked';
CREATE INDEX launches_leased ON launches (lease_token) WHERE lease_token IS NOT NULL;
CREATE INDEX launches_settled ON launches (settled_at) WHERE settled_at IS NOT NULL;

-- One row: how many instances have been told in all. A row and no sequence, because it must roll back with
-- its transaction (a gap would never be heard) and because its lock orders tellings against the watermark.
CREATE TABLE tellings (
    one  boolean PRIMARY KEY DEFAULT true CHECK (one),
    told bigint NOT NULL
);
INSERT INTO tellings (told) VALUES (0);
