-- Whose a job is: the project of the API key that scheduled it, and the key's prefix; NULL: there was no key yet.
-- Keys and jobs of earlier releases belong to the project `default`.
ALTER TABLE jobs ADD COLUMN project text NOT NULL DEFAULT 'default', ADD COLUMN created_by text;

-- The project of each key; one without a row belongs to `default`. It is no column of `api_keys`, of which the release
-- before reads all columns.
CREATE TABLE key_projects (
    prefix  text PRIMARY KEY,
    project text NOT NULL
);
