-- Of dead letters: which error they died of, so that those of the same fault are found and counted without reading one of them.
ALTER TABLE finished ADD COLUMN fingerprint TEXT;  -- NULL of all others, which are in no index of it
UPDATE finished SET fingerprint = fingerprint_of(note) WHERE state = 'failed';
CREATE INDEX finished_by_fingerprint ON finished (queue, fingerprint) WHERE fingerprint IS NOT NULL;
