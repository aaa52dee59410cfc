-- Launches that are asked for together: one call, one token, one plan. The batch and no longer the launch is what
-- is leased and asked again, since the identical call is that of the whole batch.
CREATE TABLE batches (
    -- The idempotency key: a hash of the plan and of the launch tokens of its launches, in order.
    token       text PRIMARY KEY,
    size        integer NOT NULL CHECK (size > 0),
    -- What exactly the cloud is asked for (the adapter's own, committed before it is), and its hash.
    plan        jsonb NOT NULL,
    plan_hash   text NOT NULL,
    asked_at    timestamptz NOT NULL,
    -- A call with this token may have had an effect that nobody has heard of.
    repeated    boolean NOT NULL DEFAULT false,
    -- When a sweep asks again. A claim moves it to its lease's end: who holds lease_token has the batch to itself
    -- until then. None once each of its launches has a definite answer.
    due_at      timestamptz,
    lease_token uuid,
    settled_at  timestamptz,
    CHECK ((due_at IS NULL) = (settled_at IS NOT NULL))
);
CREATE INDEX batches_due ON batches (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX batches_open ON batches (asked_at) WHERE settled_at IS NULL;
CREATE INDEX batches_settled ON batches (settled_at) WHERE settled_at IS NOT NULL;

-- The batch that a launch was asked in last, and its place in it. `due_at` of a launch that is `asked` merely tells
-- when its batch is; `uncertain` is its batch's `repeated` now, and `lease_token` holds a wanted launch while a plan
-- is made for it.
ALTER TABLE launches
    ADD COLUMN batch_token text REFERENCES batches,
    ADD COLUMN batch_place integer,
    -- Since when it has been wanted: what `spot_then_on_demand` counts from.
    ADD COLUMN wanted_at timestamptz;
CREATE INDEX launches_by_batch ON launches (batch_token, batch_place) WHERE batch_token IS NOT NULL;
CREATE INDEX launches_wanted ON launches (due_at) WHERE state = 'wanted';

-- What was asked for one by one is a batch of its own, so that the identical question can be asked again.
INSERT INTO batches (token, size, plan, plan_hash, asked_at, repeated, due_at)
SELECT launch_token, 1, '{}', '', asked_at, true, due_at FROM launches WHERE state = 'asked';
UPDATE launches SET batch_token = launch_token, batch_place = 0, lease_token = NULL WHERE state = 'asked';
UPDATE launches SET wanted_at = coalesce(asked_at, due_at) WHERE settled_at IS NULL;

ALTER TABLE launches
    ADD CHECK (state <> 'asked' OR (batch_token IS NOT NULL AND batch_place IS NOT NULL)),
    ADD CHECK (state NOT IN ('wanted', 'asked') OR wanted_at IS NOT NULL);
DROP INDEX launches_due;
DROP INDEX launches_asked;
