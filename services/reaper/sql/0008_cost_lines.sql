-- The prices an hour of the instance's public address and volume, as the launcher has published them (NULL: a launcher
-- of an earlier release, which did not count them), and what each part has cost.
ALTER TABLE instances
    ADD COLUMN other_prices jsonb,
    ADD COLUMN cost_lines jsonb;
