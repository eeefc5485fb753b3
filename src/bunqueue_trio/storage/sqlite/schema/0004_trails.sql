-- Lists that grow at their end and are cut at their front: what operators did, and the attempts and the log of a job.
-- The head of each says how much there is, so that nobody counts.
CREATE TABLE trail (
    id    INTEGER PRIMARY KEY,
    key   TEXT NOT NULL,      -- id of a job; '' of the server
    kind  TEXT NOT NULL,
    first INTEGER NOT NULL,   -- number of its oldest line
    next  INTEGER NOT NULL,   -- number of the line that comes next
    size  INTEGER NOT NULL,   -- bytes of its lines
    UNIQUE (key, kind)
) STRICT;

CREATE TABLE trail_line (
    trail INTEGER NOT NULL,
    n     INTEGER NOT NULL,
    at    INTEGER NOT NULL,   -- epoch ms
    body  BLOB NOT NULL,      -- JSON
    PRIMARY KEY (trail, n)
) STRICT, WITHOUT ROWID;

-- Nothing is kept of a job without its record, whoever deletes that.
CREATE TRIGGER finished_gone AFTER DELETE ON finished BEGIN
    DELETE FROM trail WHERE key = OLD.id;
END;
CREATE TRIGGER trail_gone AFTER DELETE ON trail BEGIN
    DELETE FROM trail_line WHERE trail = OLD.id;
END;
