-- What each launch takes of the quotas, from the commit that asks for it until the day after its instance's end; a
-- launch that was refused has no row. Usage is read from here alone: see services/launcher/quotas.py.
CREATE TABLE charges (
    job_id        bigint NOT NULL,
    attempt       integer NOT NULL,
    -- The prefix of the API key whose job it is; NULL: there was none.
    created_by    text,
    vcpus         integer NOT NULL,
    -- With address and volume: the most that the plan may cost, from the launch on the instance's own. NULL: not known.
    hourly_usd    float8,
    -- The shortest time that is billed.
    least_seconds integer NOT NULL DEFAULT 0,
    -- NULL: it is asked for.
    instance_id   text,
    began_at      timestamptz NOT NULL,
    -- The end of its time limit.
    ends_by       timestamptz NOT NULL,
    ended_at      timestamptz,
    cost_usd      float8,
    -- When the cloud is asked whether it has ended, should the event be lost. NULL: not launched, or ended.
    ask_at        timestamptz,
    PRIMARY KEY (job_id, attempt)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE INDEX charges_live ON charges (ends_by) WHERE ended_at IS NULL;
CREATE INDEX charges_to_ask ON charges (ask_at) WHERE ask_at IS NOT NULL;
CREATE INDEX charges_ended ON charges (ended_at) WHERE ended_at IS NOT NULL;

ALTER TABLE launches
    -- The quota that a wanted launch waits for, and what it needs of it.
    ADD COLUMN held_by text,
    -- When one that was ever held was first wanted: its place in the order. `wanted_at` moves with each hold.
    ADD COLUMN queued_at timestamptz,
    ADD COLUMN needs_vcpus integer,
    ADD COLUMN needs_hourly_usd float8;
CREATE INDEX launches_held ON launches (queued_at) WHERE held_by IS NOT NULL AND state = 'wanted';

-- One row, of all replicas: its lock orders the launches that are admitted, and it has the last QuotasReported.
CREATE TABLE quotas (
    only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    sequence    bigint NOT NULL DEFAULT 0,
    digest      bytea NOT NULL DEFAULT '',
    reported_at timestamptz NOT NULL DEFAULT '1970-01-01T00:00:00Z'
);
-- Where this is an upgrade, the API of the release before may run for a while yet: it cannot read the event.
INSERT INTO quotas (reported_at)
SELECT CASE WHEN told > 0 THEN now() ELSE '1970-01-01T00:00:00Z' END FROM tellings;

-- What runs now, as far as the last week's launches show it. Which of it has ended only the cloud knows: it is asked.
INSERT INTO charges (job_id, attempt, created_by, vcpus, hourly_usd, instance_id, began_at, ends_by, ask_at)
SELECT launches.job_id, launches.attempt, requirements ->> 'created_by',
    coalesce((batches.plan -> 'vcpus' ->> (report ->> 'instance_type'))::integer,
        (requirements -> 'resources' ->> 'vcpus')::integer, 1),
    (report ->> 'hourly_price_usd')::float8
        + coalesce((report -> 'other_prices' ->> 'public_ipv4_hourly_usd')::float8, 0)
        + coalesce((report -> 'other_prices' ->> 'volume_hourly_usd')::float8, 0),
    instance_id, launched_at,
    launched_at + (params ->> 'max_lifetime_seconds')::integer * interval '1 second', now()
FROM launches LEFT JOIN batches ON batches.token = launches.batch_token
WHERE state = 'launched' AND instance_id IS NOT NULL AND launched_at IS NOT NULL
    AND launched_at + (params ->> 'max_lifetime_seconds')::integer * interval '1 second' > now();
INSERT INTO charges (job_id, attempt, created_by, vcpus, began_at, ends_by)
SELECT job_id, attempt, requirements ->> 'created_by',
    coalesce((requirements -> 'resources' ->> 'vcpus')::integer, 1), asked_at,
    asked_at + (params ->> 'max_lifetime_seconds')::integer * interval '1 second'
FROM launches WHERE state = 'asked';
