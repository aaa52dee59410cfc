-- Every instance that we have heard of or adopted, until a week after the cloud has said it is gone.
CREATE TABLE instances (
    instance_id      text PRIMARY KEY,
    job_id           bigint NOT NULL,
    attempt          integer NOT NULL,
    launch_token     text NOT NULL,
    trace            text NOT NULL,
    state            text NOT NULL CHECK (state IN ('running', 'ending', 'terminated')),
    market           text NOT NULL,
    hourly_price_usd double precision NOT NULL,
    launched_at      timestamptz NOT NULL,
    dies_by          timestamptz NOT NULL,
    -- Why we end it: the cause that its attempt ended for, 'lifetime' or 'orphan'. Once terminated: what the
    -- cause was in the end.
    end_cause        text,
    -- When a sweep asks for its end next. A claim moves it to its lease's end: who holds lease_token has the
    -- row to itself until then.
    due_at           timestamptz,
    lease_token      uuid,
    tries            integer NOT NULL DEFAULT 0,
    -- Since when complete lists of the cloud have not shown it.
    missing_since    timestamptz,
    terminated_at    timestamptz,
    billed_seconds   integer,
    cost_usd         double precision,
    settled_at       timestamptz,
    CHECK ((state = 'ending') = (due_at IS NOT NULL)),
    CHECK ((state = 'terminated') = (settled_at IS NOT NULL)),
    CHECK ((state = 'terminated') = (terminated_at IS NOT NULL AND billed_seconds IS NOT NULL
        AND cost_usd IS NOT NULL)),
    CHECK (state = 'running' OR end_cause IS NOT NULL)
);
CREATE INDEX instances_running ON instances (job_id, attempt) WHERE state = 'running';
CREATE INDEX instances_ending ON instances (due_at) WHERE state = 'ending';
CREATE INDEX instances_alive ON instances (instance_id) WHERE state IN ('running', 'ending');
CREATE INDEX instances_settled ON instances (settled_at) WHERE settled_at IS NOT NULL;

-- Attempts that need their instance no more, whether or not we have heard of an instance of theirs yet.
CREATE TABLE ended_attempts (
    job_id          bigint NOT NULL,
    attempt         integer NOT NULL,
    cause           text NOT NULL,
    ended_at        timestamptz NOT NULL,
    terminate_after timestamptz NOT NULL,
    PRIMARY KEY (job_id, attempt)
);
CREATE INDEX ended_attempts_by_age ON ended_attempts (ended_at);

-- Instances that only the cloud's list shows.
CREATE TABLE sightings (
    instance_id   text PRIMARY KEY,
    first_seen_at timestamptz NOT NULL,
    last_seen_at  timestamptz NOT NULL
);
CREATE INDEX sightings_by_age ON sightings (last_seen_at);

-- One row: the launcher's latest watermark ("each launch asked for before `before` has been told, `told`
-- tellings in all"), and through which telling we have heard every one.
CREATE TABLE watermark (
    one           boolean PRIMARY KEY DEFAULT true CHECK (one),
    before        timestamptz,
    told          bigint NOT NULL DEFAULT 0,
    heard_through bigint NOT NULL DEFAULT 0
);
INSERT INTO watermark DEFAULT VALUES;

-- The numbers of tellings heard beyond heard_through: they come in any order, so a count would prove nothing.
CREATE TABLE heard_tellings (
    told bigint PRIMARY KEY
);
