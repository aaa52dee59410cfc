-- Attempts that have ended, and whose instance is not confirmed as terminated: for seconds, or an event was lost.
CREATE INDEX attempts_unconfirmed ON attempts (ended_at) WHERE instance_id IS NOT NULL AND instance_gone_at IS NULL;
