-- What the job's instance must have, where it is bought, and how often a container that fails is run again.
ALTER TABLE jobs
    ADD COLUMN resources         jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN capacity          text NOT NULL DEFAULT 'spot'
        CHECK (capacity IN ('spot', 'spot_then_on_demand', 'on_demand')),
    ADD COLUMN spot_wait_seconds integer,
    ADD COLUMN retries           integer NOT NULL DEFAULT 0;

ALTER TABLE attempts
    ADD COLUMN on_demand_hourly_price_usd double precision,
    -- When EC2 said that an interruption has become likelier.
    ADD COLUMN rebalance_at               timestamptz;
