-- The job that this one runs again; null: it is no rerun. No foreign key: that job's record may be removed.
ALTER TABLE jobs ADD COLUMN rerun_of bigint;

-- More sums of the jobs in daily_totals: a table of its own, since the release before reads all columns of that one.
CREATE TABLE daily_savings (
    day       date NOT NULL,
    status    text NOT NULL,
    -- The part of cost_usd that brought no result.
    lost_usd  numeric NOT NULL,
    -- The on-demand cost less the cost, of the attempts of which both are known.
    saved_usd numeric NOT NULL,
    PRIMARY KEY (day, status)
);
