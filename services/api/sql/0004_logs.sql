-- The bound of a log counts for each attempt, and keeps the log's beginning and its end: the beginning is in
-- log_batches, the end in log_tails. jobs.log_bytes and jobs.log_cut are not used any more.
ALTER TABLE attempts
    -- The last batch that was taken: one with this number or a lower one is a repetition.
    ADD COLUMN log_seq        integer NOT NULL DEFAULT 0,
    -- All that was printed, kept or left out.
    ADD COLUMN log_bytes      bigint NOT NULL DEFAULT 0,
    ADD COLUMN log_lines      bigint NOT NULL DEFAULT 0,
    -- Of that, the beginning that is in log_batches.
    ADD COLUMN log_head_bytes bigint NOT NULL DEFAULT 0,
    ADD COLUMN log_head_lines bigint NOT NULL DEFAULT 0,
    -- Of an attempt that has ended while its container may still run: when stop and grace are over.
    ADD COLUMN stop_by        timestamptz;

CREATE TABLE log_tails (
    job_id      bigint NOT NULL REFERENCES jobs ON DELETE CASCADE,
    attempt     integer NOT NULL,
    seq         integer NOT NULL,
    lines       jsonb NOT NULL,
    -- How many bytes and lines of the attempt came before these.
    starts_at   bigint NOT NULL,
    first_line  bigint NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (job_id, attempt, seq)
);
-- The oldest ones are deleted as new ones come.
CREATE INDEX log_tails_by_start ON log_tails (job_id, attempt, starts_at);

-- What attempts under way have printed so far is their beginning.
UPDATE attempts
SET log_seq = kept.seq, log_bytes = kept.bytes, log_lines = kept.lines,
    log_head_bytes = kept.bytes, log_head_lines = kept.lines
FROM (
    SELECT batches.job_id, batches.attempt, max(batches.seq) AS seq, count(*) AS lines,
           sum(octet_length(line ->> 2) + 1) AS bytes
    FROM log_batches batches
    JOIN attempts going ON going.job_id = batches.job_id AND going.number = batches.attempt
        AND going.state <> 'ended'
    CROSS JOIN jsonb_array_elements(batches.lines) AS line
    GROUP BY batches.job_id, batches.attempt
) AS kept
WHERE attempts.job_id = kept.job_id AND attempts.number = kept.attempt;
