-- An instance that lists do not show is asked for by its id. Only the cloud's answers count: each "there is none" adds
-- the time since the one before, a few intervals at most.
ALTER TABLE instances
    -- When it is asked for next, if it is missing then; NULL: at once.
    ADD COLUMN ask_at timestamptz,
    -- The last such answer, since which none was another; and the time that they cover.
    ADD COLUMN not_found_at timestamptz,
    ADD COLUMN not_found_seconds double precision NOT NULL DEFAULT 0;
CREATE INDEX instances_missing ON instances (coalesce(ask_at, '-infinity'))
    WHERE missing_since IS NOT NULL AND terminated_at IS NULL;
