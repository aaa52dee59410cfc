-- Batches are long enough to be compressed, and pglz took as much time as inserting the jobs that they tell of. A
-- server that was built without lz4 goes on as it did.
DO $$ BEGIN
    ALTER TABLE outbox ALTER COLUMN body SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    NULL;
END $$;
