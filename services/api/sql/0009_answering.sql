-- Whether agents are being answered, and not only whether the database is there.
ALTER TABLE availability
    -- Until when claims are known to have been answered: they need more than reports (STS, the key of secrets).
    ADD COLUMN claims_answered_until timestamptz,
    -- Since when and until when the calls of agents have failed for a fault of ours, on any replica.
    ADD COLUMN reports_failing_since timestamptz,
    ADD COLUMN reports_failing_until timestamptz,
    ADD COLUMN claims_failing_since timestamptz,
    ADD COLUMN claims_failing_until timestamptz;

ALTER TABLE outages
    -- Reports were answered, claims were not: it does not count for an attempt that waits for its claim.
    ADD COLUMN claims_only boolean NOT NULL DEFAULT false;
