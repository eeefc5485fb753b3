"""What a leader knows of its cluster: it looks again and again, and notes since when something is not as it should be.

What counts as trouble is decided here, once: the findings, the page and the metrics go by it. A server with a file knows of nobody.
"""

from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import trio

from bunqueue_trio.config import CLUSTER_LOOK_S, HOUR_MS
from bunqueue_trio.errors import StoreError
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.storage.awaited import Leading, Watcher
from bunqueue_trio.storage.cluster import OLDEST_S as OLDEST_S
from bunqueue_trio.storage.cluster import Cluster as Cluster
from bunqueue_trio.storage.cluster import DoorFigures as DoorFigures
from bunqueue_trio.storage.cluster import Failover as Failover
from bunqueue_trio.storage.cluster import Replica as Replica
from bunqueue_trio.storage.cluster import Table as Table
from bunqueue_trio.storage.cluster import Term as Term
from bunqueue_trio.storage.cluster import Waiting as Waiting
from bunqueue_trio.storage.cluster import is_bloated as is_bloated

DAY_MS = 24 * HOUR_MS
# A failover of the database would lose or wait for that much.
REPLICA_LAG_S = 30
# Of a round trip: who waits for each answer gets fewer than 50 a second.
FAR_MS = 20
# Of which the shortest counts: the server may have been busy.
SEEN_TRIPS = 6


class ClusterFigures(NamedTuple):
    """The cluster as it was seen last; moments in epoch ms."""

    known: Cluster | None = None
    """None: it was not looked at yet, or there is none."""
    at: int = 0
    since: Mapping[str, int] = {}
    """What is not as it should be, and since when this server sees it."""
    error: str | None = None
    """Why it could not be looked at since."""


class _Store(Protocol):
    """What is asked of a store, and of no other."""

    def watcher(self) -> Watcher: ...

    def leading(self) -> Leading: ...


class ClusterWatch:
    """Looks every CLUSTER_LOOK_S, over a connection of its own."""

    def __init__(self, store: _Store, clock: Clock, jobs: Callable[[], int]) -> None:
        self.figures: ClusterFigures = ClusterFigures()
        self._store = store
        self._clock = clock
        self._jobs = jobs
        self._trips: deque[float] = deque(maxlen=SEEN_TRIPS)

    async def run(self) -> None:
        """Look again and again."""
        watcher = self._store.watcher()
        try:
            while True:
                await self.look(watcher)
                await trio.sleep(CLUSTER_LOOK_S)
        finally:
            watcher.close()

    async def look(self, watcher: Watcher) -> None:
        """Look once; of a database that does not answer the last picture stays."""
        try:
            known = await watcher.look(self._jobs())
        except StoreError as error:
            self.figures = self.figures._replace(error=str(error))
            return
        self._trips.append(known.round_trip_ms)
        known, now = known._replace(round_trip_ms=min(self._trips)), self._clock.now()
        before = self.figures.since
        since = {code: before.get(code, now) for code in troubles(known, self._store.leading(), now)}
        self.figures = ClusterFigures(known, now, since)


def troubles(known: Cluster, leading: Leading, now: int) -> list[str]:
    """Return what is not as it should be, by the codes of its findings."""
    lag_s = max_lag_s(known)
    holds = {
        "standby-missing": who_is_missed(known, now) is not None,
        "replica-behind": lag_s > REPLICA_LAG_S,
        "memory-short": leading.remembers_s is not None and 0 < leading.remembers_s < 2 * lag_s,
        "table-bloated": any(is_bloated(table) for table in known.tables),
        "transaction-old": (known.oldest_s or 0) > OLDEST_S,
        "database-far": known.round_trip_ms > FAR_MS,
    }
    return [code for code, is_so in holds.items() if is_so]


def max_lag_s(known: Cluster) -> float:
    """Return how far the replica is behind that is furthest, in seconds."""
    return max((each.lag_s or 0 for each in known.replicas), default=0)


def who_is_missed(known: Cluster, now: int) -> str | None:
    """Return a server that would take over if it were here, while nobody waits; None: somebody does, or nobody has lately.

    One that has left in order is not missed, and one that runs alone misses nobody.
    """
    if known.waiting:
        return None
    if known.missing:
        return min(known.missing, key=lambda each: each.seen_s).holder
    if len(known.terms) < 2:
        return None
    before = known.terms[1]
    is_other = host_of(before.holder) != host_of(known.holder)
    is_lately = before.until is not None and before.until > now - DAY_MS
    return before.holder if before.ended == "silent" and is_other and is_lately else None


def host_of(holder: str) -> str:
    """Return the machine of a server, by its name."""
    return holder.partition(" process ")[0]
