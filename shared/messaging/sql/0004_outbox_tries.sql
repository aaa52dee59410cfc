-- How often the broker did not confirm this message though it answered: no queue took it, or it was refused. Such a row
-- is tried again with growing delay (lease_until) and holds up no other.
ALTER TABLE outbox ADD COLUMN tries integer NOT NULL DEFAULT 0;
