-- What the launcher has published of what it can launch, with prices: a part of a version a row, as it came. The newest
-- version of which all parts are here holds; older ones are deleted.
CREATE TABLE offers (
    version   text NOT NULL,
    part      integer NOT NULL,
    parts     integer NOT NULL CHECK (part BETWEEN 1 AND parts),
    priced_at timestamptz NOT NULL,
    body      bytea NOT NULL,
    PRIMARY KEY (version, part)
);
