-- True if the end of the attempt counts against no limit of its job: the fault is the deployment's, the account's or AWS's.
ALTER TABLE attempts ADD COLUMN excused boolean;
-- What an operator can change so that the next attempt passes, while that waits for its due time: /readyz names it.
CREATE INDEX attempts_retried_to_change ON attempts (to_change) WHERE to_change IS NOT NULL AND state = 'scheduled';

ALTER TABLE launch_breaker
    -- What an operator can change so that instances boot again.
    ADD COLUMN to_change    text,
    -- Since when instances have failed to boot in a row.
    ADD COLUMN since        timestamptz,
    -- Of the latest pause that is over, until when: failed boots in that time count against no job.
    ADD COLUMN shared_from  timestamptz,
    ADD COLUMN shared_until timestamptz;
