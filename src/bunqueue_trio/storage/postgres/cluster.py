"""Looking at who serves a store in a database: who leads and has led, who waits, what a failover would take, and the replicas."""

from typing import NamedTuple

from bunqueue_trio.errors import StartupError, StoreError
from bunqueue_trio.storage.postgres.link import Link, Query, Row
from bunqueue_trio.storage.postgres.place import Place
from bunqueue_trio.storage.postgres.schema import check_schema

_JOB_S = 10e-6  # of a start, where none has been measured yet
_MANY = 1000  # jobs, of which a start says how long one takes
_MS = "(extract(epoch FROM {}) * 1000)::bigint"
_LEADER = (
    "SELECT term, holder, version, link, beat > '-infinity' AND beat + lease >= clock_timestamp(), "  # noqa: S608 - ours
    "extract(epoch FROM clock_timestamp() - CASE WHEN beat > '-infinity' THEN beat END)::float8, extract(epoch FROM lease)::float8, "
    f"{_MS.format('since')}, start_jobs, start_s, (SELECT count(*) FROM bq.job) FROM bq.leader"
)
_TERMS = f"SELECT term, holder, version, {_MS.format('since')} FROM bq.term ORDER BY term DESC"  # noqa: S608
_WAITING = (
    f"SELECT holder, version, {_MS.format('since')}, extract(epoch FROM clock_timestamp() - seen)::float8 "  # noqa: S608
    "FROM bq.waiting WHERE seen > clock_timestamp() - interval '1 minute' ORDER BY since, holder"
)
_REPLICAS = (
    "SELECT coalesce(nullif(application_name, ''), client_addr::text, pid::text), state, sync_state, "
    "pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint, extract(epoch FROM replay_lag)::float8 "
    "FROM pg_stat_replication WHERE NOT pg_is_in_recovery() ORDER BY 1"
)
_TABLES = (
    "SELECT relname::text, pg_total_relation_size(oid)::bigint FROM pg_class "
    "WHERE relnamespace = to_regnamespace($1) AND relkind IN ('r', 'p') ORDER BY 2 DESC, 1"
)


class Term(NamedTuple):
    """A term, this one too: who has led since when, in epoch ms."""

    term: int
    holder: str
    version: str
    since: int


class Waiting(NamedTuple):
    """A server that waits, and is a door meanwhile."""

    holder: str
    version: str
    since: int
    seen_s: float
    """How long ago it was heard of."""


class Replica(NamedTuple):
    """A replica of the database, as this says it; what it does not say, or not to us, is None."""

    name: str
    state: str | None
    sync: str | None
    behind: int | None
    """Bytes that it has not replayed yet."""
    lag_s: float | None


class Failover(NamedTuple):
    """What it would take if the leader ended now."""

    jobs: int
    """Unfinished ones, which the next leader reads first."""
    start_s: float
    """How long that takes, about."""
    killed_s: float
    """When the leader is killed: the rest of its lease before that."""
    measured: bool
    """Whether that is of its last start, or of what is usual."""


class Cluster(NamedTuple):
    """Who leads at a store: its last term, by whom, and where that is reached; ages and the lease in seconds, moments in epoch ms."""

    term: int
    holder: str
    version: str
    link: str | None
    is_alive: bool
    age_s: float | None
    lease_s: float
    since: int | None
    terms: list[Term]
    """The last ones, newest first, this one too."""
    waiting: list[Waiting]
    replicas: list[Replica]
    failover: Failover
    tables: dict[str, int]
    """Bytes of each, with its indexes."""


def look_at_cluster(place: Place) -> Cluster:
    """Return who serves the store at ``place``.

    Raises:
        StartupError: there is no store of ours, or it is of another version, or nobody can lead there.
        StoreError: it cannot be read.
    """
    link = Link(place.conninfo)

    def ask(text: str, *values: str) -> list[Row]:
        return link.ask(Query(place.qualified(text), values), 60)

    try:
        check_schema(link, place)
        for term, holder, version, where, is_alive, age_s, lease_s, since, start_jobs, start_s, jobs in ask(_LEADER):
            return Cluster(
                term, holder, version, where, bool(is_alive), age_s, lease_s, since,
                [Term(*row) for row in ask(_TERMS)],
                [Waiting(*row) for row in ask(_WAITING)],
                [Replica(*row) for row in ask(_REPLICAS)],
                _failover(jobs, lease_s, start_jobs, start_s),
                {str(name): int(size) for name, size in ask(_TABLES, place.schema)},
            )  # fmt: skip
        raise StartupError(f"{place}: the row of the leader is gone, so nobody can lead there")
    except AssertionError as error:
        raise StoreError(f"{place}: {error}") from None
    finally:
        link.close()


def _failover(jobs: int, lease_s: float, start_jobs: int | None, start_s: float | None) -> Failover:
    each, measured = _JOB_S, False
    if start_jobs is not None and start_s is not None and start_jobs >= _MANY:
        each, measured = start_s / start_jobs, True
    return Failover(jobs, jobs * each, lease_s + jobs * each, measured)
