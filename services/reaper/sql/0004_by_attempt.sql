-- Over all, and not over those alone that run: an index that was small when nothing ran is taken to be small in a
-- burst too, and then read as a whole for each attempt.
CREATE INDEX instances_by_attempt ON instances (job_id, attempt);
DROP INDEX instances_running;
-- For the watch alone, which reads all that lives: no other statement names settled_at so.
CREATE INDEX instances_unsettled ON instances (instance_id) WHERE settled_at IS NULL;
DROP INDEX instances_alive;
