-- The pages of /list?image=… and ?name=… : newest first. By hash, since an image has up to 4096 characters and an
-- entry of an index not as many; whoever searches compares the text too. Writing waits while the two are made: some
-- seconds with a million jobs.
CREATE INDEX jobs_by_image ON jobs (hashtextextended(docker_image, 0), id);
CREATE INDEX jobs_by_name ON jobs (hashtextextended(name, 0), id) WHERE name IS NOT NULL;
