-- Two times of a transaction with events: `at` is the clock's, by which age is judged; `stamp` is not before the time of
-- the newest id, above which the next life begins. In rows from before, `at` stood for both.
ALTER TABLE event_batch ADD COLUMN stamp INTEGER NOT NULL DEFAULT 0;
