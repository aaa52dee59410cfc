-- The latest pause of launching, by the API's LaunchesPaused and LaunchesResumed: one row, of all replicas.
CREATE TABLE pauses (
    only_row      boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    sequence      bigint NOT NULL DEFAULT 0,
    -- NULL: launches go on.
    paused_until  timestamptz,
    message       text NOT NULL DEFAULT '',
    trial_seconds integer NOT NULL DEFAULT 0,
    -- The one launch that is tried after the pause, and until when nothing else is if it neither boots nor fails.
    trial_job     bigint,
    trial_attempt integer,
    trial_until   timestamptz
);
INSERT INTO pauses DEFAULT VALUES;

ALTER TABLE launches
    -- The pause that its delay was last published for, and since when it waits for nothing but the pause.
    ADD COLUMN paused_in bigint,
    ADD COLUMN paused_from timestamptz;
