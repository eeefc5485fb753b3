"""What one queue holds, and the plain records that the engine hands to the runtime."""

import re
from operator import attrgetter
from typing import Any

from msgspec import Struct, field

from bunqueue_trio import errors
from bunqueue_trio.config import LEASE_MS, PULL_BATCH_BYTES, RESTART_GRACE_MS, STALLS_MAX
from bunqueue_trio.engine.configs import Configs
from bunqueue_trio.engine.facts import Fact
from bunqueue_trio.engine.job import UNFINISHED, Job, State
from bunqueue_trio.engine.line import Line
from bunqueue_trio.engine.ready import Ready
from bunqueue_trio.engine.recount import Recount
from bunqueue_trio.engine.shelf import Shelf
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


_NOBODY: Line[Job] = Line(BY_PUSH)
_NOT_HELD: dict[Job, None] = {}
_NO_KEYS: dict[str, Job] = {}
"""Of the queues that have no such job; nobody puts anything in. A queue with one job takes 380 bytes in the engine, and would take 1,290."""


class Queue(Struct, eq=False, gc=False):
    """One queue: where each unfinished job stands, and the keys they hold."""

    name: str
    ready: Ready = field(default_factory=Ready)
    delayed: Line[Job] = field(default_factory=lambda: _NOBODY)
    waiting_children: Line[Job] = field(default_factory=lambda: _NOBODY)
    active: dict[Job, None] = field(default_factory=lambda: _NOT_HELD)
    """As they were delivered, those of the lives before first; whoever shows them sorts them."""
    keys: dict[str, Job] = field(default_factory=lambda: _NO_KEYS)

    def count(self, state: State) -> int:
        """Return how many jobs are in ``state``; looks at every block of a line."""
        if state is State.WAITING:
            return len(self.ready)
        return len(self.active) if state is State.ACTIVE else len(self.line(state))

    @property
    def counts(self) -> dict[State, int]:
        """How many jobs are in each state."""
        return {state: self.count(state) for state in UNFINISHED}

    @property
    def is_empty(self) -> bool:
        """Whether no job is in it."""
        return not (self.ready or self.active or self.delayed or self.waiting_children)

    def line(self, state: State) -> Line[Job]:
        """Return where the delayed jobs stand, or those that wait for others."""
        return self.delayed if state is State.DELAYED else self.waiting_children

    def enter(self, job: Job, state: State) -> None:
        """List ``job`` in ``state``, which is not waiting: there :class:`Ready` does."""
        if state is not State.ACTIVE:
            self._own_line(state).add(job)
        elif self.active:
            self.active[job] = None
        else:
            self.active = {job: None}

    def leave(self, job: Job, state: State) -> None:
        """Undo :meth:`enter`."""
        if state is State.ACTIVE:
            del self.active[job]
            if not self.active:
                self.active = _NOT_HELD
        else:
            self.line(state).remove(job)

    def hold(self, key: str, job: Job) -> None:
        """Let an unfinished job have its key."""
        if not self.keys:
            self.keys = {}
        self.keys[key] = job

    def free(self, key: str) -> None:
        """Let another job have a key."""
        del self.keys[key]
        if not self.keys:
            self.keys = _NO_KEYS

    def fill(self, state: State, jobs: list[Job]) -> None:
        """List all jobs of a store that are in ``state``, which is not waiting."""
        if state is State.ACTIVE:
            self.active = dict.fromkeys(sorted(jobs, key=by_delivery))
        else:
            self._own_line(state).fill(jobs)

    def _own_line(self, state: State) -> Line[Job]:
        """Return the same, where something is to be put in."""
        if self.line(state) is _NOBODY:
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
        self.names: Shelf = Shelf()
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
        """Put in all ``waiting`` jobs of a store; return the largest of their places."""
        newest = 0
        for (name, priority), jobs in lines.items():
            self.open(name).ready.fill(priority, jobs)
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
