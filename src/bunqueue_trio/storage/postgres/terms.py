"""The rows about who leads, who has led, and who waits; the fence itself is in ``ddl/0001_initial.sql``."""

import os
import socket
from typing import NamedTuple

DURABLE = "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'"
"""Part of a transaction that a crash must not lose, also where the database does not wait for the disk otherwise."""
LEAD = "SELECT leader.batch, leader.link FROM bq.lead($1::bigint, $2::uuid), bq.leader"
_LEADS = (
    "holder = $1, beat = clock_timestamp(), answer = NULL, link = NULL, lease = make_interval(secs => $2::double precision), "
    "version = $3, since = clock_timestamp(), start_jobs = NULL, start_s = NULL"
)
_NOTED = (
    "ended AS (UPDATE bq.term SET until = nullif(before.beat, '-infinity'), ended = CASE WHEN before.beat = '-infinity' THEN 'stopped' ELSE 'silent' END "
    "FROM before, taken WHERE bq.term.term = before.term AND bq.term.ended IS NULL), "
    "noted AS (INSERT INTO bq.term SELECT term, $1, $3, since FROM taken WHERE $4::boolean "
    "ON CONFLICT (term) DO UPDATE SET holder = excluded.holder, version = excluded.version, since = excluded.since, until = NULL, ended = NULL), "
    "old AS (DELETE FROM bq.term USING taken WHERE bq.term.term <= taken.term - 20) "
)
_OVER = "(beat + lease < clock_timestamp() OR concat_ws(' ', life, beat) = $5::text)"
_OVER_NOW = "(leader.beat + leader.lease < clock_timestamp() OR concat_ws(' ', leader.life, leader.beat) = $5::text)"
TAKE = (
    f"WITH durable AS ({DURABLE}), "  # noqa: S608
    f"before AS (SELECT term, life, beat FROM bq.leader WHERE {_OVER} FOR UPDATE), "
    f"taken AS (UPDATE bq.leader SET term = leader.term + 1, life = gen_random_uuid(), {_LEADS} FROM before "
    f"WHERE {_OVER_NOW} RETURNING leader.term, leader.life, leader.batch, leader.since, before.life AS before), "
    f"{_NOTED}SELECT term, life::text, batch, (extract(epoch FROM clock_timestamp()) * 1000)::bigint, before::text "
    "FROM taken LEFT JOIN durable ON true"
)
"""Begins a term, unless another one leads, which has said more than $5. That of a copy is not noted: it serves nobody."""
TAKE_AGAIN = (
    f"WITH durable AS ({DURABLE}), "  # noqa: S608
    "before AS (SELECT term, life, beat FROM bq.leader), "
    f"taken AS (UPDATE bq.leader SET term = $5::bigint, life = $6::uuid, {_LEADS} "
    "WHERE term = $5::bigint - 1 AND life = $7::uuid AND batch = $8::bigint RETURNING term, since), "
    f"{_NOTED}SELECT term FROM taken LEFT JOIN durable ON true"
)
"""The same once more, in a database that has lost it and is as it was before."""
SEEN = "SELECT holder, term, batch, concat_ws(' ', life, beat), beat = '-infinity', extract(epoch FROM lease)::float8 FROM bq.leader"
STARTED = "UPDATE bq.leader SET start_jobs = $3::bigint, start_s = $4::double precision WHERE term = $1::bigint AND life = $2::uuid"
LET_GO = (
    "WITH gone AS (UPDATE bq.leader SET beat = '-infinity' WHERE term = $1::bigint AND life = $2::uuid RETURNING term) "
    "UPDATE bq.term SET until = clock_timestamp(), ended = 'stopped' FROM gone WHERE bq.term.term = gone.term"
)

TELL = (
    f"WITH durable AS ({DURABLE}) UPDATE bq.leader SET link = $1 FROM (SELECT count(*) FROM durable) AS it"  # noqa: S608
    " WHERE term = $2::bigint AND life = $3::uuid RETURNING link"
)
LOOK = "SELECT leader.link, link.key FROM bq.leader, bq.link"
WAIT = (
    "WITH here AS (INSERT INTO bq.waiting AS w VALUES ($1, $2, clock_timestamp(), clock_timestamp(), $3, $4::boolean, $5::bigint, $6::bigint) "
    "ON CONFLICT (holder) DO UPDATE SET version = excluded.version, seen = excluded.seen, address = excluded.address, "
    "reaches = excluded.reaches, connections = excluded.connections, requests = excluded.requests, "
    "since = CASE WHEN w.seen < clock_timestamp() - interval '1 minute' THEN excluded.since ELSE w.since END), "
    "gone AS (DELETE FROM bq.waiting WHERE holder <> $1 AND seen < clock_timestamp() - interval '1 day') "
)
"""Before LOOK: says that somebody waits. Who was not seen for a day is forgotten; who leaves in order says so."""
WAITS_NO_MORE = "DELETE FROM bq.waiting WHERE holder = $1"


class Seen(NamedTuple):
    """The row of the leader, to somebody who waits."""

    holder: str
    term: int
    batch: int
    beat: str
    """When the leader was heard of last, and its life; any other change of this row is a sign of life, too."""
    is_free: bool
    """Nobody leads: nobody has yet, or who did has let go."""
    lease_s: float


def own_name() -> str:
    """Return the name of this server, for people."""
    return f"{socket.gethostname()} process {os.getpid()}"
