-- The prices an hour of the instance's public address and volume, and what each part of it has cost. NULL: published by
-- an earlier release, which counted the instance alone.
ALTER TABLE attempts
    ADD COLUMN other_prices jsonb,
    ADD COLUMN cost_lines jsonb;
