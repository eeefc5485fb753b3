"""What one queue holds, and the plain records that the engine hands to the runtime."""

import re
from operator import attrgetter
from typing import Any

from msgspec import Struct

from bunqueue_trio import errors
from bunqueue_trio.config import LEASE_MS, PULL_BATCH_BYTES, RESTART_GRACE_MS, STALLS_MAX
from bunqueue_trio.engine.configs import Configs
from bunqueue_trio.engine.facts import Fact
from bunqueue_trio.engine.job import UNFINISHED, Job, State
from bunqueue_trio.engine.line import Line
from bunqueue_trio.engine.ready import Ready
from bunqueue_trio.engine.recount import Recount
from bunqueue_trio.engine.trails import TrailChange
from bunqueue_trio.protocol.events import Event

Lines = dict[tuple[str, int], list[Job]]
"""Jobs by queue and priority."""

BY_TIME = attrgetter("run_at", "seq")
# Not by created_at: a clock that is set back between two lives would put later ones first. A place is a pair.
BY_PUSH = attrgetter("seq", "seq")


def by_delivery(job: Job) -> tuple[int, int]:
    """Return where an active job stands among the others: who has it for longest comes first."""
    return job.started_at or 0, job.seq


_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,256}")


def check_name(name: str) -> None:
    """Raise ``Refused`` when ``name`` cannot be a queue's."""
    if not _NAME.fullmatch(name):
        raise errors.INVALID_QUEUE.refuse()


_NONE: Line[Job] = Line(BY_PUSH)
"""Of the queues of which no job was ever there: with 30,000 queues each line more is 3 ms for whoever collects garbage. Nobody puts anything in."""


class Queue:
    """One queue: where each unfinished job stands, how many there are of each state, and the keys they hold."""

    __slots__ = ("active", "counts", "delayed", "keys", "name", "ready", "waiting_children")

    def __init__(self, name: str) -> None:
        self.name: str = name
        self.ready: Ready = Ready()
        self.delayed: Line[Job] = _NONE
        self.waiting_children: Line[Job] = _NONE
        self.active: dict[Job, None] = {}
        """As they were delivered, those of the lives before first; whoever shows them sorts them."""
        self.counts: dict[State, int] = dict.fromkeys(UNFINISHED, 0)
        self.keys: dict[str, Job] = {}

    def line(self, state: State) -> Line[Job]:
        """Return where the delayed jobs stand, or those that wait for others."""
        return self.delayed if state is State.DELAYED else self.waiting_children

    def enter(self, job: Job, state: State) -> None:
        """List ``job`` in ``state``, which is not waiting: there :class:`Ready` does."""
        if state is State.ACTIVE:
            self.active[job] = None
        else:
            self._own_line(state).add(job)

    def leave(self, job: Job, state: State) -> None:
        """Undo :meth:`enter`."""
        if state is State.ACTIVE:
            del self.active[job]
        else:
            self.line(state).remove(job)

    def fill(self, state: State, jobs: list[Job]) -> None:
        """List, and count, all jobs of a store that are in ``state``, which is not waiting."""
        self.counts[state] = len(jobs)
        if state is State.ACTIVE:
            self.active = dict.fromkeys(jobs)
        else:
            self._own_line(state).fill(jobs)

    def _own_line(self, state: State) -> Line[Job]:
        """Return the same, where something is to be put in."""
        if self.line(state) is _NONE:
            if state is State.DELAYED:
                self.delayed = Line(BY_TIME)
            else:
                self.waiting_children = Line(BY_PUSH)
        return self.line(state)


class Queues(dict[str, Queue]):
    """Every queue that holds a job, and some that did, by name."""

    recount: Recount | None = None
    """Goes along with every change of a state while the self-audit counts the jobs anew."""

    def __init__(self, configs: Configs) -> None:
        super().__init__()
        self._configs = configs
        self.names: Line[str] = Line(str)
        """All of them, in order."""

    def check(self, name: str) -> None:
        """Raise ``Refused`` when ``name`` cannot be a queue's."""
        if name not in self:
            check_name(name)

    def open(self, name: str) -> Queue:
        """Return the queue, to which a job comes; it is made if it is new.

        Raises:
            Refused: the name is not a legal one.
        """
        queue = self.get(name)
        if queue is None:
            self.check(name)
            queue = self[name] = Queue(name)
            self.names.add(name)
        if self._configs.idle:
            self._configs.note_use(name)
        return queue

    def drop(self, name: str) -> None:
        """Forget a queue that holds nothing."""
        del self[name]
        self.names.remove(name)

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
    died: int = 0
    """Those of them of which nobody wanted that: neither discarded, nor waiting for what was cancelled, nor of a muted error."""
    retried: int = 0
    stalled: int = 0
    lost_to_stalls: int = 0
    expired: int = 0
    cancelled: int = 0
    auto_retried: int = 0
    """Dead letters that their queue has retried by itself."""


class Changes(Struct):
    """What the steps since the last :meth:`Engine.take` did."""

    epoch: int
    jobs: dict[Job, Any]
    """With what was made of some of them already, see :attr:`Moves.changed`."""
    events: list[Event]
    reused_ids: list[str]
    """Ids chosen by producers: an older finished record of the same id makes room."""
    removed_ids: set[str]
    """Ids of jobs that have left memory already."""
    facts: list[Fact] = []
    rewritten: dict[Job, None] = {}
    """Those of the jobs whose whole row is to be written anew, not only what changes in a life."""
    trails: list[TrailChange] = []
    groups: dict[Job, str] = {}
    """The groups of errors that some of the dead jobs belong to, by their fingerprints; of others they are still to be found."""


class Rules(Struct, frozen=True):
    """The numbers of the engine that are settings; ms where not said otherwise."""

    lease: int = LEASE_MS
    stalls_max: int = STALLS_MAX
    """How many stalls a job survives; one more sends it to the dead-letter queue."""
    restart_grace: int = RESTART_GRACE_MS
    pull_bytes: int = PULL_BATCH_BYTES
    """Of payloads; a bulk pull that has this many takes no more."""
    fenced: bool = False
    """Whether another server may take the store over: no delivery is known before its own commit then."""


DEFAULT_RULES = Rules()
