-- The last report of this service's dead letters, which the API keeps and shows: its number, a digest of what it said,
-- and how many letters that were. One row; none before the first report.
CREATE TABLE dead_letter_report (
    only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    sequence    bigint NOT NULL,
    digest      bytea NOT NULL,
    letters     integer NOT NULL,
    reported_at timestamptz NOT NULL
);
-- Written at each change while events fail: that is one page for ever if the old versions go at once.
ALTER TABLE dead_letter_report SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 100);
