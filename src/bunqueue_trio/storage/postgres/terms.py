"""What is written of who leads, who has led, and who waits; the fence itself is in ``ddl/0001_initial.sql``."""

import os
import socket

LEAD = "SELECT leader.batch, leader.link FROM bq.lead($1::bigint, $2::uuid), bq.leader"
_LEADS = (
    "holder = $1, beat = clock_timestamp(), answer = NULL, link = NULL, lease = make_interval(secs => $2::double precision), "
    "version = $3, since = clock_timestamp(), start_jobs = NULL, start_s = NULL"
)
_NOTED = (
    "noted AS (INSERT INTO bq.term SELECT term, $1, $3, since FROM taken "
    "ON CONFLICT (term) DO UPDATE SET holder = excluded.holder, version = excluded.version, since = excluded.since), "
    "old AS (DELETE FROM bq.term USING taken WHERE bq.term.term <= taken.term - 20) "
)
TAKE = (
    "WITH before AS (SELECT life FROM bq.leader WHERE beat + lease < clock_timestamp() FOR UPDATE), "  # noqa: S608
    f"taken AS (UPDATE bq.leader SET term = term + 1, life = gen_random_uuid(), {_LEADS} FROM before "
    "WHERE beat + lease < clock_timestamp() RETURNING term, leader.life, batch, since, before.life AS before), "
    f"{_NOTED}SELECT term, life::text, batch, (extract(epoch FROM clock_timestamp()) * 1000)::bigint, before::text FROM taken"
)
TAKE_AGAIN = (
    f"WITH taken AS (UPDATE bq.leader SET term = $4::bigint, life = $5::uuid, {_LEADS} "  # noqa: S608
    "WHERE term = $4::bigint - 1 AND life = $6::uuid AND batch = $7::bigint RETURNING term, since), "
    f"{_NOTED}SELECT term FROM taken"
)
"""The same once more, in a database that has lost it and is as it was before."""
HOLDER = "SELECT holder FROM bq.leader"
STARTED = "UPDATE bq.leader SET start_jobs = $3::bigint, start_s = $4::double precision WHERE term = $1::bigint AND life = $2::uuid"
LET_GO = "UPDATE bq.leader SET beat = '-infinity' WHERE term = $1::bigint AND life = $2::uuid"

TELL = "UPDATE bq.leader SET link = $1 WHERE term = $2::bigint AND life = $3::uuid RETURNING link"
LOOK = "SELECT leader.link, link.key FROM bq.leader, bq.link"
WAIT = (
    "WITH here AS (INSERT INTO bq.waiting AS w VALUES ($1, $2, clock_timestamp(), clock_timestamp()) ON CONFLICT (holder) DO UPDATE "
    "SET version = excluded.version, seen = excluded.seen, "
    "since = CASE WHEN w.seen < clock_timestamp() - interval '1 minute' THEN excluded.since ELSE w.since END), "
    "gone AS (DELETE FROM bq.waiting WHERE holder <> $1 AND seen < clock_timestamp() - interval '1 hour') "
)
"""Before LOOK: says that somebody waits. Who was not seen for an hour is forgotten."""
WAITS_NO_MORE = "DELETE FROM bq.waiting WHERE holder = $1"


def own_name() -> str:
    """Return the name of this server, for people."""
    return f"{socket.gethostname()} process {os.getpid()}"
