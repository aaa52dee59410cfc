-- The body of the event that settled a launch (InstanceLaunched or LaunchRefused): a reader that has lost it gets it
-- again. The outbox keeps what was published for a day, and finds nothing by its launch.
ALTER TABLE launches ADD COLUMN report jsonb;

-- "Which launches bear these numbers?"
CREATE INDEX launches_by_sequence ON launches (told) WHERE told IS NOT NULL;

-- What is in the outbox still. A body that is no array is of a release before batches.
UPDATE launches SET report = event -> 'data'
FROM outbox CROSS JOIN LATERAL jsonb_array_elements(
    CASE WHEN substring(outbox.body FROM 1 FOR 1) = '\x5b' THEN convert_from(outbox.body, 'UTF8')::jsonb ELSE '[]' END) AS event
WHERE outbox.name = CASE launches.state WHEN 'launched' THEN 'InstanceLaunched' WHEN 'refused' THEN 'LaunchRefused' END
    AND outbox.name IN ('InstanceLaunched', 'LaunchRefused')
    AND launches.job_id = (event #>> '{data,job_id}')::bigint
    AND launches.attempt = (event #>> '{data,attempt}')::integer;
