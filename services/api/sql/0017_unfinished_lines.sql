-- Which lines of a batch go on in the next line of their stream: a letter a line, 'u' unfinished,
-- 's' split, '.' ended; null: all have ended. A column of its own and not a part of each line, so
-- that an API of the release before, which takes each piece for a line, still reads the batch.
ALTER TABLE log_batches ADD COLUMN continues text;
ALTER TABLE log_tails ADD COLUMN continues text;
