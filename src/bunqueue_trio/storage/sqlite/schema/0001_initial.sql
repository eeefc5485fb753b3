-- Everything that is unfinished; the engine holds the same in memory. Times are epoch ms.
-- A row is appended at its push and deleted at its end: the file's hot part stays small.
CREATE TABLE job (
    seq        INTEGER PRIMARY KEY,  -- order of all pushes
    id         TEXT NOT NULL,
    queue      TEXT NOT NULL,
    data       BLOB NOT NULL,        -- JSON, byte for byte as it was sent
    options    TEXT,                 -- JSON of engine.job.Options without its defaults; NULL: all default
    priority   INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    run_at     INTEGER NOT NULL,
    state      TEXT NOT NULL,
    place      INTEGER NOT NULL,     -- Job.order
    attempts   INTEGER NOT NULL,
    stalls     INTEGER NOT NULL,
    progress   ANY NOT NULL,
    started_at INTEGER,
    lease      TEXT,                 -- JSON of engine.job.Lease while active
    note       TEXT                  -- JSON of engine.job.Note when there is something to note
) STRICT;

-- What has ended, in the order of the ends, until retention takes it.
CREATE TABLE finished (
    fin         INTEGER PRIMARY KEY,  -- order of all ends; never used twice while the process lives
    id          TEXT NOT NULL UNIQUE,
    queue       TEXT NOT NULL,
    state       TEXT NOT NULL,       -- completed, failed; removed: completed and not to be shown
    finished_at INTEGER NOT NULL,
    data        BLOB NOT NULL,
    options     TEXT,
    priority    INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    run_at      INTEGER NOT NULL,
    attempts    INTEGER NOT NULL,
    stalls      INTEGER NOT NULL,
    progress    ANY NOT NULL,
    started_at  INTEGER,
    note        TEXT,
    result      BLOB                 -- JSON, byte for byte as it was sent
) STRICT;

-- The recent events, one row for each transaction that had any; more where a row would get huge.
CREATE TABLE event_batch (
    last_id    INTEGER PRIMARY KEY,  -- id of the last event in it
    count      INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    body       BLOB NOT NULL         -- the events as JSON, separated by RS (0x1E)
) STRICT;
