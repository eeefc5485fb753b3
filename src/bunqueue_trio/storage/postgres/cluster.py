"""Looking at who serves a store in a database, and at the database: for a command, once, and for the leader again and again."""

import time

from bunqueue_trio.errors import StartupError, StoreError
from bunqueue_trio.storage.cluster import Cluster, Replica, Table, Term, Waiting, failover
from bunqueue_trio.storage.postgres.link import DatabaseLink, Query, Row
from bunqueue_trio.storage.postgres.place import Place
from bunqueue_trio.storage.postgres.schema import check_schema

# Who was not heard of for longer does not wait any more.
_PRESENT_S = 60
_MS = "(extract(epoch FROM {}) * 1000)::bigint"
_LEADER = (
    "SELECT term, holder, version, link, beat > '-infinity' AND beat + lease >= clock_timestamp(), "  # noqa: S608 - ours
    "extract(epoch FROM clock_timestamp() - CASE WHEN beat > '-infinity' THEN beat END)::float8, extract(epoch FROM lease)::float8, "
    f"{_MS.format('since')}, start_jobs, start_s FROM bq.leader"
)
_JOBS = "SELECT count(*) FROM bq.job"
_TERMS = (
    f"SELECT term, holder, version, {_MS.format('since')}, {_MS.format('until')}, ended FROM bq.term ORDER BY term DESC"  # noqa: S608
)
_WAITING = (
    f"SELECT holder, version, {_MS.format('since')}, extract(epoch FROM clock_timestamp() - seen)::float8, "  # noqa: S608
    "address, reaches, connections, requests FROM bq.waiting WHERE seen > clock_timestamp() - interval '1 day' ORDER BY since, holder"
)
_REPLICAS = (
    "SELECT coalesce(nullif(application_name, ''), client_addr::text, pid::text), state, sync_state, "
    "pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint, extract(epoch FROM replay_lag)::float8 "
    "FROM pg_stat_replication WHERE NOT pg_is_in_recovery() ORDER BY 1"
)
_TABLES = (
    "SELECT c.relname::text, pg_total_relation_size(c.oid)::bigint, coalesce(s.n_live_tup, 0), coalesce(s.n_dead_tup, 0) "
    "FROM pg_class c LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid "
    "WHERE c.relnamespace = to_regnamespace($1) AND c.relkind IN ('r', 'p') ORDER BY 2 DESC, 1"
)
OLDEST = (
    "SELECT extract(epoch FROM max(clock_timestamp() - began))::float8 AS {} FROM (SELECT xact_start AS began FROM pg_stat_activity "
    "WHERE datname = current_database() AND backend_type = 'client backend' UNION ALL "
    "SELECT prepared FROM pg_prepared_xacts WHERE database = current_database()) AS open"
)
_OLDEST = OLDEST.format("oldest")


def look_at_cluster(place: Place) -> Cluster:
    """Return who serves the store at ``place``.

    Raises:
        StartupError: there is no store of ours, or it is of another version, or nobody can lead there.
        StoreError: it cannot be read.
    """
    link = DatabaseLink(place.conninfo)

    def ask(query: Query) -> list[Row]:
        return link.ask(query, 60)

    try:
        check_schema(link, place)
        first, *others = _questions(place)
        begun = time.monotonic()
        answers = [ask(first)]
        trip_ms = (time.monotonic() - begun) * 1000
        answers += [ask(query) for query in others]
        [(jobs,)] = ask(Query(place.qualified(_JOBS)))
        if not answers[0]:
            raise StartupError(f"{place}: the row of the leader is gone, so nobody can lead there")
        return _cluster(answers, jobs, trip_ms)
    except AssertionError as error:
        raise StoreError(f"{place}: {error}") from None
    finally:
        link.close()


class Watcher:
    """Looks for the leader itself, over a connection of its own."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._link = DatabaseLink(place.conninfo)

    async def look(self, jobs: int) -> Cluster:
        """Return what is there; ``jobs``: how many are unfinished.

        Raises:
            StoreError: nobody can tell now.
        """
        first, *others = _questions(self._place)
        try:
            if not self._link.is_open:
                await self._link.ask_soon(Query("SELECT 1"))
            begun = time.monotonic()
            answers = [await self._link.ask_soon(first)]
            trip_ms = (time.monotonic() - begun) * 1000
            answers += [await self._link.ask_soon(query) for query in others]
        except AssertionError as error:
            # What is only looked at is no reason to end a server.
            raise StoreError(str(error)) from None
        if not answers[0]:
            raise StoreError("the row of the leader is gone")
        return _cluster(answers, jobs, trip_ms)

    def close(self) -> None:
        """End the connection."""
        self._link.close()


def _questions(place: Place) -> list[Query]:
    return [
        *(Query(place.qualified(text)) for text in (_LEADER, _TERMS, _WAITING, _REPLICAS, _OLDEST)),
        Query(_TABLES, (place.schema,)),
    ]


def _cluster(answers: list[list[Row]], jobs: int, round_trip_ms: float) -> Cluster:
    [leader], terms, waiting, replicas, [(oldest_s,)], tables = answers
    term, holder, version, link, is_alive, age_s, lease_s, since, start_jobs, start_s = leader
    servers = [Waiting(*row) for row in waiting]
    return Cluster(
        term, holder, version, link, bool(is_alive), age_s, lease_s, since,
        terms=[Term(*row) for row in terms],
        waiting=[each for each in servers if each.seen_s < _PRESENT_S],
        missing=[each for each in servers if each.seen_s >= _PRESENT_S],
        replicas=[Replica(*row) for row in replicas],
        failover=failover(jobs, lease_s, start_jobs, start_s),
        tables=[Table(*row) for row in tables],
        oldest_s=oldest_s,
        round_trip_ms=round_trip_ms,
    )  # fmt: skip
