-- What is dead for longer than a setting says is removed.
CREATE INDEX parked_dead ON parked (parked_at) WHERE state = 'dead';
