-- Who may use the API. Of a key only its hash is kept; the prefix finds the row and names it in a list.
CREATE TABLE api_keys (
    prefix       text PRIMARY KEY,
    name         text NOT NULL,
    scope        text NOT NULL CHECK (scope IN ('read', 'submit', 'admin')),
    key_hash     bytea NOT NULL,
    created_at   timestamptz NOT NULL,
    last_used_at timestamptz,
    revoked_at   timestamptz
);
