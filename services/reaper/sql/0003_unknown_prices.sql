-- A price that is not known is NULL, and so is what the instance has cost: 0 is the price of a free one.
ALTER TABLE instances
    ALTER COLUMN hourly_price_usd DROP NOT NULL,
    DROP CONSTRAINT instances_check2,
    ADD CONSTRAINT instances_terminated CHECK (
        (state = 'terminated') = (terminated_at IS NOT NULL AND billed_seconds IS NOT NULL));
