"""The servers of one queue in a database, and the database itself: one picture for the page, the command and the metrics."""

from typing import NamedTuple


class Term(NamedTuple):
    """A term, this one too: who has led since when, in epoch ms."""

    term: int
    holder: str
    version: str
    since: int
    until: int | None = None
    """Of one that is over: when its leader let go, or was heard of last."""
    ended: str | None = None
    """``stopped``: it has let go; ``silent``: nothing was heard of it for its lease; None: it goes on, or nobody knows."""


class DoorFigures(NamedTuple):
    """How a server that waits is doing as a door."""

    reaches: bool = False
    """The leader."""
    connections: int = 0
    """Of clients."""
    requests: int = 0
    """Of those, which the leader has not answered."""
    is_gone: bool = False
    """The leader was reached, and its machine says now that it has ended."""


class Waiting(NamedTuple):
    """A server that waits, and is a door meanwhile."""

    holder: str
    version: str
    since: int
    seen_s: float
    """How long ago it was heard of."""
    address: str | None = None
    reaches: bool | None = None
    connections: int | None = None
    requests: int | None = None


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
    """Whether that was measured at its last start, or is an estimate."""


class Table(NamedTuple):
    """A table: its bytes with its indexes, and its rows, about; dead ones are those that nobody needs and nothing has cleared away."""

    name: str
    bytes: int
    live: int
    dead: int


class Cluster(NamedTuple):
    """Who leads at a store: its last term, by whom, and where that is reached; ages and the lease in seconds, moments in epoch ms."""

    term: int
    holder: str
    version: str
    link: str | None
    is_alive: bool
    age_s: float | None
    """Since the leader was heard of; None: it has let go, or there was none yet."""
    lease_s: float
    since: int | None
    terms: list[Term]
    """The last ones, newest first, this one too."""
    waiting: list[Waiting]
    """Those that were heard of within a minute."""
    missing: list[Waiting]
    """Those that were heard of within a day, and have not said that they leave."""
    replicas: list[Replica]
    failover: Failover
    tables: list[Table]
    oldest_s: float | None
    """Of the oldest transaction that this user may see: what is younger than that cannot be cleared away."""
    round_trip_ms: float
    """What a question to the database took that asks for one row."""


DEAD_PART, DEAD_MIN = 20, 100_000
"""Dead rows for each live one, and at least, which a start has to read past."""
OLDEST_S = 600
"""Of a transaction: dead rows of a busy queue gather behind it."""
# The length of a start where none has been measured yet.
_JOB_S = 10e-6
# Jobs, of which a start says how long one takes.
_MANY = 1000


def is_bloated(table: Table) -> bool:
    """Return whether dead rows gather in a table: autovacuum does not keep up."""
    return table.dead > max(DEAD_MIN, DEAD_PART * table.live)


def failover(jobs: int, lease_s: float, start_jobs: int | None, start_s: float | None) -> Failover:
    """Return what it would take, by how long the last start took to read this many jobs."""
    each, measured = _JOB_S, False
    if start_jobs is not None and start_s is not None and start_jobs >= _MANY:
        each, measured = start_s / start_jobs, True
    return Failover(jobs, jobs * each, lease_s + jobs * each, measured)
