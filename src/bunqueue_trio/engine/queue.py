"""What one queue holds, and the plain records that the engine hands to the runtime."""

import re

from msgspec import Struct

from bunqueue_trio import errors
from bunqueue_trio.config import LEASE_MS, PULL_BATCH_BYTES, RESTART_GRACE_MS, STALLS_MAX
from bunqueue_trio.engine.facts import Fact
from bunqueue_trio.engine.job import UNFINISHED, Job, State
from bunqueue_trio.engine.ready import Ready
from bunqueue_trio.engine.recount import Recount
from bunqueue_trio.protocol.events import Event

Lines = dict[tuple[str, int], list[Job]]
"""Jobs by queue and priority."""

_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,256}")


class Queue:
    """One queue: its ready jobs, how many unfinished jobs stand where, and the keys they hold."""

    __slots__ = ("counts", "keys", "name", "ready")

    def __init__(self, name: str) -> None:
        self.name: str = name
        self.ready: Ready = Ready()
        self.counts: dict[State, int] = dict.fromkeys(UNFINISHED, 0)
        self.keys: dict[str, Job] = {}


class Queues(dict[str, Queue]):
    """Every queue that holds a job, and some that did, by name."""

    recount: Recount | None = None
    """Goes along with every change of a state while the self-audit counts the jobs anew."""

    def check(self, name: str) -> None:
        """Raise ``Refused`` when ``name`` cannot be a queue's."""
        if name not in self and not _NAME.fullmatch(name):
            raise errors.INVALID_QUEUE.refuse()

    def open(self, name: str) -> Queue:
        """Return the queue, made if it is new.

        Raises:
            Refused: the name is not a legal one.
        """
        queue = self.get(name)
        if queue is None:
            self.check(name)
            queue = self[name] = Queue(name)
        return queue

    def fill(self, lines: Lines) -> int:
        """Put in all ``waiting`` jobs of a store, and count them; return the largest of their places."""
        newest = 0
        for (name, priority), jobs in lines.items():
            queue = self.open(name)
            queue.ready.fill(priority, jobs)
            queue.counts[State.WAITING] = len(queue.ready)
            newest = max(newest, -jobs[0].order, jobs[-1].order)
        return newest


class Totals(Struct):
    """What has happened since the engine was made."""

    pushed: int = 0
    pulled: int = 0
    completed: int = 0
    failed: int = 0
    """Jobs that failed for good."""
    retried: int = 0
    stalled: int = 0
    lost_to_stalls: int = 0
    expired: int = 0
    cancelled: int = 0


class Changes(Struct):
    """What the steps since the last :meth:`Engine.take` did."""

    epoch: int
    jobs: dict[Job, None]
    events: list[Event]
    reused_ids: list[str]
    """Ids chosen by producers: an older finished record of the same id makes room."""
    removed_ids: set[str]
    """Ids of jobs that have left memory already."""
    facts: list[Fact] = []


class Rules(Struct, frozen=True):
    """The numbers of the engine that are settings; ms where not said otherwise."""

    lease: int = LEASE_MS
    stalls_max: int = STALLS_MAX
    """So many stalls a job survives; one more sends it to the dead-letter queue."""
    restart_grace: int = RESTART_GRACE_MS
    pull_bytes: int = PULL_BATCH_BYTES
    """Of payloads; a bulk pull that has so many takes no more."""


DEFAULT_RULES = Rules()
