-- For people who look at it: how a term has ended, and how each server that waits is doing as a door.
ALTER TABLE bq.term
    ADD COLUMN until timestamptz,  -- of one that is over: when its leader let go, or was heard of last
    ADD COLUMN ended text;         -- stopped: it has let go; silent: nothing was heard of it for its lease
ALTER TABLE bq.waiting
    ADD COLUMN address text,       -- of its machine, on the way to the database
    ADD COLUMN reaches boolean,    -- the leader
    ADD COLUMN connections bigint, -- of clients
    ADD COLUMN requests bigint;    -- of those, which the leader has not answered
