-- What must survive and is no job: small values by kind and key.
CREATE TABLE fact (
    kind  TEXT NOT NULL,
    key   TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;

-- The records of one queue and state in the order of their ends (every index ends with the key, `fin`), and how many
-- there are, without reading one of them.
CREATE INDEX finished_by_state ON finished (queue, state);
