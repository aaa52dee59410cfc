-- Calls of the cloud that a fault of the deployment forbids, one row each, of all replicas: see services/reaper/cloud_calls.py.
CREATE TABLE refused_calls (
    -- The port's method, such as terminate.
    call       text PRIMARY KEY,
    -- The cloud's latest message, with what an operator can change.
    message    text NOT NULL,
    since      timestamptz NOT NULL,
    -- The last refusal.
    refused_at timestamptz NOT NULL,
    -- From when on it is logged as an error again.
    alert_at   timestamptz NOT NULL
);
