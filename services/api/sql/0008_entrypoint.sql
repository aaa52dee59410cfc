-- The program (and its first arguments) that a job's container runs instead of its image's entrypoint.
ALTER TABLE jobs ADD COLUMN entrypoint jsonb;
