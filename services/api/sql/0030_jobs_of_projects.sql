-- The pages of /list of one project, newest first, and its finished jobs for /stats, /totals and /list?by=finished: what
-- a key sees must cost the same however many jobs others have. Writing waits while the two are made: some seconds with
-- a million jobs.
CREATE INDEX jobs_by_project ON jobs (project, id);
CREATE INDEX jobs_finished_by_project ON jobs (project, finished_at, id) WHERE finished_at IS NOT NULL;

-- The parts of daily_totals and daily_savings that removed jobs of other projects than `default` have; the rest is
-- that of `default`. So the release before, which knows no projects, adds to those two and nothing is lost.
CREATE TABLE project_totals (
    day            date NOT NULL,
    status         text NOT NULL,
    project        text NOT NULL,
    jobs           bigint NOT NULL,
    attempts       bigint NOT NULL,
    interruptions  bigint NOT NULL,
    billed_seconds bigint NOT NULL,
    cost_usd       numeric NOT NULL,
    unknown_costs  bigint NOT NULL,
    -- NULL: no price of them is known.
    lost_usd       numeric,
    saved_usd      numeric,
    PRIMARY KEY (day, status, project)
);
