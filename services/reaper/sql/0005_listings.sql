-- When the last complete list of the cloud was processed, by any replica: one row. Between two lists nothing was seen,
-- so a longer time than usual between them proves nothing about what is missing or unknown.
CREATE TABLE listings (
    only_row  boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    listed_at timestamptz
);
INSERT INTO listings DEFAULT VALUES;

ALTER TABLE instances
    -- The part of the time since missing_since in which the reaper got no list.
    ADD COLUMN unlisted_seconds double precision NOT NULL DEFAULT 0;
