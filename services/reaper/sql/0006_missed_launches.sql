-- At most one row: the launch reports that the launcher's watermark counts and that have not come. Without them no
-- watermark is trusted, and no orphan is ended before its lifetime is over.
CREATE TABLE missed_launches (
    only_row     boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    -- The lowest number that is missing, and the highest that the watermark counted when that was noticed.
    first        bigint NOT NULL,
    through      bigint NOT NULL CHECK (through >= first),
    since        timestamptz NOT NULL,
    -- When the launcher is asked for them again, and when operators are alerted again.
    ask_again_at timestamptz,
    alert_at     timestamptz
);
