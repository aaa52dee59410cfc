-- An outbox row is a batch of events now, and its id is the batch's: the events' own stand in the body.
ALTER TABLE outbox RENAME COLUMN event_id TO batch_id;

-- How many tries of a parked event began and had no outcome: its reader died on it.
ALTER TABLE parked ADD COLUMN unfinished integer NOT NULL DEFAULT 0;
