-- The same as schema/0004 of the SQLite store, and the row that says who may write. `bq` stands for the schema of the store.
CREATE TABLE bq.meta (
    one     boolean PRIMARY KEY DEFAULT true CHECK (one),
    version integer NOT NULL  -- the last of these files that was run
);

-- Who leads, and what it has committed last: the lease, the fence and the memory of a COMMIT whose answer was lost.
CREATE TABLE bq.leader (
    one    boolean PRIMARY KEY DEFAULT true CHECK (one),
    term   bigint NOT NULL,      -- raised by every takeover
    life   uuid NOT NULL,        -- of this term, in this history of the database: another one has another
    batch  bigint NOT NULL,      -- number of the last commit, over all terms
    answer text,                 -- what that commit has answered
    holder text NOT NULL,        -- for people: host and process
    beat   timestamptz NOT NULL, -- of the last commit or beat, by the clock of the database
    lease  interval NOT NULL     -- how long after it nobody else may lead
) WITH (fillfactor = 10);
INSERT INTO bq.leader VALUES (true, 0, gen_random_uuid(), 0, NULL, '', '-infinity', '0');

-- Everything that is unfinished; the engine holds the same in memory. Times are epoch ms. In ids and keys, which may have a
-- NUL in them, U+0001 U+0001 stands for U+0000, and U+0001 U+0002 for U+0001.
CREATE TABLE bq.job (
    seq        bigint PRIMARY KEY,         -- order of all pushes
    id         text COLLATE "C" NOT NULL,
    queue      text COLLATE "C" NOT NULL,
    data       bytea NOT NULL,             -- JSON, byte for byte as it was sent
    options    text,                       -- JSON of engine.job.Options without its defaults; NULL: all default
    priority   bigint NOT NULL,
    created_at bigint NOT NULL,
    run_at     bigint NOT NULL,
    state      text NOT NULL,
    place      bigint NOT NULL,            -- Job.order
    attempts   bigint NOT NULL,
    stalls     bigint NOT NULL,
    progress   text NOT NULL,              -- a number as Python writes it: 50 is not 50.0
    started_at bigint,
    lease      text,                       -- JSON of engine.job.Lease while active
    note       text                        -- JSON of engine.job.Note when there is something to note
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- What has ended, in the order of the ends, until retention takes it.
CREATE TABLE bq.finished (
    fin         bigint PRIMARY KEY,        -- order of all ends
    id          text COLLATE "C" NOT NULL UNIQUE,
    queue       text COLLATE "C" NOT NULL,
    state       text NOT NULL,             -- completed, failed; removed: completed and not to be shown
    finished_at bigint NOT NULL,
    data        bytea NOT NULL,
    options     text,
    priority    bigint NOT NULL,
    created_at  bigint NOT NULL,
    run_at      bigint NOT NULL,
    attempts    bigint NOT NULL,
    stalls      bigint NOT NULL,
    progress    text NOT NULL,
    started_at  bigint,
    note        text,
    result      bytea,                     -- JSON, byte for byte as it was sent
    fingerprint text COLLATE "C"           -- of dead letters: which error they died of
);
CREATE INDEX finished_by_state ON bq.finished (queue, state, fin);
CREATE INDEX finished_by_fingerprint ON bq.finished (queue, fingerprint, fin) WHERE fingerprint IS NOT NULL;

-- The recent events, one row for each transaction that had any; more where a row would get huge.
CREATE TABLE bq.event_batch (
    last_id bigint PRIMARY KEY,            -- id of the last event in it
    count   bigint NOT NULL,
    at      bigint NOT NULL,               -- by the clock, for their age
    body    bytea NOT NULL,                -- the events as JSON, separated by RS (0x1E)
    stamp   bigint NOT NULL                -- not before the time of the newest id
);

-- What must survive and is no job: small values by kind and key.
CREATE TABLE bq.fact (
    kind  text COLLATE "C" NOT NULL,
    key   text COLLATE "C" NOT NULL,
    value bytea NOT NULL,
    PRIMARY KEY (kind, key)
);

-- Lists that grow at their end and are cut at their front: what operators did, and the attempts and the log of a job.
CREATE TABLE bq.trail (
    id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key   text COLLATE "C" NOT NULL,       -- id of a job; '' of the server
    kind  text COLLATE "C" NOT NULL,
    first bigint NOT NULL,                 -- number of its oldest line
    next  bigint NOT NULL,                 -- number of the line that comes next
    size  bigint NOT NULL,                 -- bytes of its lines
    UNIQUE (key, kind)
);
CREATE TABLE bq.trail_line (
    trail bigint NOT NULL REFERENCES bq.trail (id) ON DELETE CASCADE,
    n     bigint NOT NULL,
    at    bigint NOT NULL,
    body  bytea NOT NULL,
    PRIMARY KEY (trail, n)
);

-- Nothing is kept of a job without its record, whoever deletes that.
CREATE FUNCTION bq.forget_trails() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM bq.trail WHERE key IN (SELECT id FROM gone);
    RETURN NULL;
END $$;
CREATE TRIGGER finished_gone AFTER DELETE ON bq.finished REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION bq.forget_trails();

-- Says no to whoever does not lead any more; what is written otherwise begins with it. The row is locked until the end of
-- the transaction, so that a takeover waits for that.
CREATE FUNCTION bq.lead(p_term bigint, p_life uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    now_is bq.leader;
BEGIN
    UPDATE bq.leader SET beat = clock_timestamp() WHERE term = p_term AND life = p_life;
    IF NOT FOUND THEN
        SELECT * INTO now_is FROM bq.leader;
        RAISE EXCEPTION 'fenced' USING ERRCODE = 'BQ001',
            DETAIL = concat_ws(' ', now_is.term, now_is.life, now_is.batch, now_is.holder);
    END IF;
END $$;

-- Adds one line to a trail, and lets the oldest ones go that are too many.
CREATE FUNCTION bq.add_line(
    p_key text, p_kind text, p_at bigint, p_body bytea, p_of_record boolean, p_lines bigint, p_size bigint
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    head bq.trail;
    begun bigint;
    dropped bigint;
BEGIN
    IF p_of_record AND NOT EXISTS (SELECT FROM bq.finished WHERE id = p_key) THEN
        RETURN;
    END IF;
    INSERT INTO bq.trail AS t (key, kind, first, next, size) VALUES (p_key, p_kind, 1, 2, octet_length(p_body))
        ON CONFLICT (key, kind) DO UPDATE SET next = t.next + 1, size = t.size + excluded.size RETURNING * INTO head;
    INSERT INTO bq.trail_line VALUES (head.id, head.next - 1, p_at, p_body);
    begun := head.first;
    WHILE head.next - head.first > 1 AND (head.next - head.first > p_lines OR head.size > p_size) LOOP
        DELETE FROM bq.trail_line WHERE trail = head.id AND n = head.first RETURNING octet_length(body) INTO dropped;
        head.first := head.first + 1;
        head.size := head.size - dropped;
    END LOOP;
    IF head.first > begun THEN
        UPDATE bq.trail SET first = head.first, size = head.size WHERE id = head.id;
    END IF;
END $$;

-- One batch in one round trip, whole or not at all. It answers which records made room for a new job with their id; and the
-- same once more when it is asked again because nobody has heard the answer.
CREATE FUNCTION bq.commit_1(
    p_term bigint, p_life uuid, p_batch bigint, p_durable boolean,
    r_id text[],
    w_seq bigint[],
    n_seq bigint[], n_id text[], n_queue text[], n_data bytea[], n_options text[], n_priority bigint[], n_created_at bigint[],
    n_run_at bigint[], n_state text[], n_place bigint[], n_attempts bigint[], n_stalls bigint[], n_progress text[],
    n_started_at bigint[], n_lease text[], n_note text[],
    c_run_at bigint[], c_state text[], c_place bigint[], c_attempts bigint[], c_stalls bigint[], c_progress text[],
    c_started_at bigint[], c_lease text[], c_note text[], c_seq bigint[],
    e_seq bigint[],
    f_fin bigint[], f_id text[], f_queue text[], f_state text[], f_finished_at bigint[], f_data bytea[], f_options text[],
    f_priority bigint[], f_created_at bigint[], f_run_at bigint[], f_attempts bigint[], f_stalls bigint[], f_progress text[],
    f_started_at bigint[], f_note text[], f_result bytea[], f_fingerprint text[],
    k_kind text[], k_key text[], k_value bytea[],
    t_what bigint[], t_key text[], t_kind text[], t_at bigint[], t_body bytea[], t_lines bigint[], t_size bigint[],
    v_last_id bigint[], v_count bigint[], v_at bigint[], v_body bytea[], v_stamp bigint[]
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    now_is bq.leader;
    gone text;
BEGIN
    UPDATE bq.leader SET batch = p_batch, beat = clock_timestamp(), answer = NULL
        WHERE term = p_term AND life = p_life AND batch = p_batch - 1;
    IF NOT FOUND THEN
        SELECT * INTO now_is FROM bq.leader FOR SHARE;
        IF now_is.term = p_term AND now_is.life = p_life AND now_is.batch = p_batch THEN
            RETURN now_is.answer;  -- this very batch is there: the answer to its COMMIT was lost
        END IF;
        RAISE EXCEPTION 'fenced' USING ERRCODE = 'BQ001',
            DETAIL = concat_ws(' ', now_is.term, now_is.life, now_is.batch, now_is.holder);
    END IF;
    IF p_durable AND current_setting('synchronous_commit') = 'off' THEN
        SET LOCAL synchronous_commit = on;
    END IF;
    IF cardinality(r_id) > 0 THEN
        WITH made_room AS (DELETE FROM bq.finished WHERE id = ANY (r_id) RETURNING queue, state, fingerprint)
            SELECT json_agg(json_build_array(queue, state, fingerprint)) INTO gone FROM made_room;
        UPDATE bq.leader SET answer = gone;
    END IF;
    IF cardinality(w_seq) > 0 THEN
        DELETE FROM bq.job WHERE seq = ANY (w_seq);
    END IF;
    IF cardinality(n_seq) > 0 THEN
        INSERT INTO bq.job SELECT * FROM unnest(
            n_seq, n_id, n_queue, n_data, n_options, n_priority, n_created_at, n_run_at, n_state, n_place, n_attempts,
            n_stalls, n_progress, n_started_at, n_lease, n_note);
    END IF;
    IF cardinality(c_seq) > 0 THEN
        UPDATE bq.job SET run_at = u.run_at, state = u.state, place = u.place, attempts = u.attempts, stalls = u.stalls,
            progress = u.progress, started_at = u.started_at, lease = u.lease, note = u.note
            FROM unnest(c_run_at, c_state, c_place, c_attempts, c_stalls, c_progress, c_started_at, c_lease, c_note, c_seq)
            AS u(run_at, state, place, attempts, stalls, progress, started_at, lease, note, seq) WHERE job.seq = u.seq;
    END IF;
    IF cardinality(e_seq) > 0 THEN
        DELETE FROM bq.job WHERE seq = ANY (e_seq);
    END IF;
    IF cardinality(f_fin) > 0 THEN
        INSERT INTO bq.finished SELECT * FROM unnest(
            f_fin, f_id, f_queue, f_state, f_finished_at, f_data, f_options, f_priority, f_created_at, f_run_at, f_attempts,
            f_stalls, f_progress, f_started_at, f_note, f_result, f_fingerprint);
    END IF;
    IF cardinality(k_kind) > 0 THEN
        DELETE FROM bq.fact USING unnest(k_kind, k_key, k_value) AS u(kind, key, value)
            WHERE u.value IS NULL AND fact.kind = u.kind AND fact.key = u.key;
        INSERT INTO bq.fact SELECT * FROM unnest(k_kind, k_key, k_value) AS u(kind, key, value) WHERE u.value IS NOT NULL
            ON CONFLICT (kind, key) DO UPDATE SET value = excluded.value;
    END IF;
    FOR i IN 1 .. cardinality(t_what) LOOP
        CASE t_what[i]
            WHEN 0 THEN DELETE FROM bq.trail WHERE key = t_key[i];
            WHEN 1 THEN DELETE FROM bq.trail WHERE key = t_key[i] AND kind = t_kind[i];
            ELSE PERFORM bq.add_line(t_key[i], t_kind[i], t_at[i], t_body[i], t_what[i] = 3, t_lines[i], t_size[i]);
        END CASE;
    END LOOP;
    IF cardinality(v_last_id) > 0 THEN
        INSERT INTO bq.event_batch SELECT * FROM unnest(v_last_id, v_count, v_at, v_body, v_stamp);
    END IF;
    RETURN gone;
END $$;

-- Retention, each step by whoever leads. What was deleted is answered by queue, state and fingerprint, so that it is counted.
CREATE FUNCTION bq.prune_finished_1(p_term bigint, p_life uuid, p_fin bigint[])
    RETURNS TABLE (queue text, state text, fingerprint text, n bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM bq.lead(p_term, p_life);
    RETURN QUERY WITH gone AS (DELETE FROM bq.finished WHERE fin = ANY (p_fin) RETURNING queue, state, fingerprint)
        SELECT queue::text, state, fingerprint::text, count(*) FROM gone GROUP BY 1, 2, 3;
END $$;
CREATE FUNCTION bq.prune_events_1(p_term bigint, p_life uuid, p_last_id bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM bq.lead(p_term, p_life);
    DELETE FROM bq.event_batch WHERE last_id = ANY (p_last_id);
END $$;
CREATE FUNCTION bq.prune_actions_1(p_term bigint, p_life uuid, p_kind text, p_most bigint, p_since bigint, p_rows bigint)
    RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    head bq.trail;
    aged bigint;
    doomed bigint;
    freed bigint;
BEGIN
    SELECT * INTO head FROM bq.trail WHERE key = '' AND kind = p_kind;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    SELECT max(n) INTO aged FROM (SELECT n, at FROM bq.trail_line WHERE trail = head.id ORDER BY n LIMIT p_rows) AS oldest
        WHERE at < p_since;
    doomed := least(greatest(head.next - 1 - p_most, coalesce(aged, 0)), head.first + p_rows - 1);
    IF doomed < head.first THEN
        RETURN 0;
    END IF;
    PERFORM bq.lead(p_term, p_life);
    WITH gone AS (DELETE FROM bq.trail_line WHERE trail = head.id AND n <= doomed RETURNING octet_length(body) AS size)
        SELECT sum(size) INTO freed FROM gone;
    UPDATE bq.trail SET first = doomed + 1, size = size - freed WHERE id = head.id;
    RETURN doomed + 1 - head.first;
END $$;
