-- When an attempt of which no launch is reported is asked for again; NULL: it never was.
ALTER TABLE attempts ADD COLUMN ask_again_at timestamptz;

-- What is due and has neither instance nor end. The condition names only columns that other indexes name too and that
-- change together with them: it keeps no update of an attempt from being made in place.
CREATE INDEX attempts_unlaunched ON attempts (due_at)
    WHERE check_at IS NULL AND instance_id IS NULL AND ended_at IS NULL;
