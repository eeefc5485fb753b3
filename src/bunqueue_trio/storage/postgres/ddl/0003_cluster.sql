-- For people who look at it: since when somebody leads, with which version, and how long its start took to read how many jobs.
ALTER TABLE bq.leader
    ADD COLUMN since timestamptz,
    ADD COLUMN version text NOT NULL DEFAULT '',
    ADD COLUMN start_jobs bigint,
    ADD COLUMN start_s double precision;

-- The last terms, this one too.
CREATE TABLE bq.term (
    term    bigint PRIMARY KEY,
    holder  text NOT NULL,
    version text NOT NULL,
    since   timestamptz NOT NULL
);

-- Servers that wait to lead, as they say themselves.
CREATE TABLE bq.waiting (
    holder  text PRIMARY KEY,
    version text NOT NULL,
    since   timestamptz NOT NULL,
    seen    timestamptz NOT NULL
);
