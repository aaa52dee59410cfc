-- What the job's instance must have, where it is bought, and how often a container that fails is run again.
ALTER TABLE jobs
    ADD COLUMN resources         jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN capacity          text NOT NULL DEFAULT 'spot'
        CHECK (capacity IN ('spot', 'spot_then_on_demand', 'on_demand')),
    ADD COLUMN spot_wait_seconds integer,
    ADD COLUMN retries           integer NOT NULL DEFAULT 0;
