-- An outbox row is a batch of events now, and its id is the batch's: the events' own stand in the body.
ALTER TABLE outbox RENAME COLUMN event_id TO batch_id;

-- A service of the release before, still running while the next one begins, cannot read a batch and would keep it as
-- dead. With this column gone it cannot: it ends, and the message waits for its successor.
ALTER TABLE parked RENAME COLUMN raw TO body;

-- How many tries of a parked event began and had no outcome: its reader died on it.
ALTER TABLE parked ADD COLUMN unfinished integer NOT NULL DEFAULT 0;
