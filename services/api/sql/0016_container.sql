-- How a job's container is run; null: as the image says, or the deployment's default.
ALTER TABLE jobs
    ADD COLUMN "user" text,
    ADD COLUMN working_dir text,
    ADD COLUMN shm_size_mib integer,
    ADD COLUMN init boolean,
    ADD COLUMN stop_signal text,
    ADD COLUMN stop_grace_seconds integer,
    ADD COLUMN read_only boolean NOT NULL DEFAULT false;
