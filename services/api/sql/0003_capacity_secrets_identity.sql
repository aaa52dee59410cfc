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
-- An instance that shows who it is by its role is found by its id.
CREATE INDEX attempts_by_instance ON attempts (instance_id) WHERE instance_id IS NOT NULL;

-- Signatures (hashed) with which instances have shown who they are: each for one agent's token.
CREATE TABLE used_proofs (
    signature  bytea PRIMARY KEY,
    token_hash bytea NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX used_proofs_by_age ON used_proofs (expires_at);

ALTER TABLE jobs
    -- The names of the variables whose values are in job_secrets.
    ADD COLUMN secret_env    jsonb NOT NULL DEFAULT '[]',
    -- Where the instance finds the values of others: {"NAME": "<SSM parameter or Secrets Manager ARN>"}
    ADD COLUMN secrets       jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN registry_auth text;

-- The values of secret_env, sealed (AES-256-GCM), until the job is over.
CREATE TABLE job_secrets (
    job_id bigint PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
    key_id text NOT NULL,
    sealed bytea NOT NULL
);
CREATE INDEX job_secrets_by_key ON job_secrets (key_id);
