-- What an operator can change so that the delayed launch passes (LaunchDelayed.to_change): /readyz names it.
ALTER TABLE attempts ADD COLUMN to_change text;
CREATE INDEX attempts_to_change ON attempts (to_change) WHERE to_change IS NOT NULL AND state = 'delayed';
