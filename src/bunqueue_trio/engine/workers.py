"""Who works on jobs: as far as it is known, in memory, each with the jobs that it has.

A worker is known by the id that it gives itself, which for one that gives none is its connection, or its address behind
an ``@``. It is forgotten when it leaves, or is silent for long. What an operator says of one is kept among the facts.
"""

from collections.abc import Callable
from typing import NamedTuple

from bunqueue_trio.config import MINUTE_MS, WORKER_SILENT_MS, WORKERS_MAX
from bunqueue_trio.engine.facts import Facts
from bunqueue_trio.engine.job import Job, Lease
from bunqueue_trio.engine.line import Line
from bunqueue_trio.protocol.events import NamedType

QUIET = "quiet-worker"
"""The kind of facts that hold since when a worker gets no jobs."""


class Worker:
    """One who works; times in epoch ms."""

    __slots__ = (
        "address", "asked", "concurrency", "connections", "done", "failed", "has_left", "heard_at", "hostname", "id", "is_named",
        "jobs", "lately", "name", "pid", "queues", "quiet_since", "registered_at", "since_then", "transport", "version",
    )  # fmt: skip

    def __init__(self, worker_id: str, now: int, *, is_named: bool) -> None:
        self.id: str = worker_id
        self.name: str = worker_id.removeprefix("@")
        self.is_named: bool = is_named
        """It has given itself its id: events name it, and it may come back."""
        self.queues: bytes = b"[]"
        """Their names, as JSON: a list of a hundred texts weighs ten times as much."""
        self.asked: str = ""
        """The queue that it has asked for last, and gets nothing of, since it is quiet: it may have named none."""
        self.concurrency: int = 1
        self.hostname: str = "unknown"
        self.pid: int = 0
        self.version: str = "unknown"
        self.transport: str = "http"
        self.address: str | None = None
        self.registered_at: int = now
        self.heard_at: int = now
        self.quiet_since: int | None = None
        self.done: int = 0
        self.failed: int = 0
        self.lately: tuple[int, int] = (now, 0)
        """When it was looked at a minute ago or two, and how many it had done then."""
        self.since_then: tuple[int, int] = self.lately
        """The same of the last look."""
        self.jobs: dict[Job, None] = {}
        self.connections: set[str] = set()
        self.has_left: bool = False
        """It is forgotten when it has no jobs any more."""

    def look(self, now: int) -> None:
        """Note how many it has done, once a minute."""
        if now - self.since_then[0] >= MINUTE_MS:
            self.lately, self.since_then = self.since_then, (now, self.done)

    def a_minute(self, now: int) -> float:
        """Return how many it completes in a minute, by the last one or two."""
        at, done = self.lately
        return round((self.done - done) * MINUTE_MS / max(now - at, MINUTE_MS), 1)

    def works_on(self, queue: str) -> bool:
        """Return whether it works on ``queue``, or would."""
        if queue == self.asked:
            return True
        # Within a text of JSON a quote has a backslash before it.
        return b',"%s"' % queue.encode() in self.queues.replace(b"[", b",", 1)


def is_there(worker: Worker, now: int) -> bool:
    """Return whether a worker is connected, or was heard of lately."""
    return bool(worker.connections) or worker.heard_at > now - WORKER_SILENT_MS


class Owned(dict[str, dict[Job, None]]):
    """The active jobs of each connection that holds any."""

    def add(self, connection: str, job: Job) -> None:
        """Note that a connection holds a job."""
        self.setdefault(connection, {})[job] = None

    def take(self, connection: str, job: Job) -> None:
        """Note that it does not any more."""
        jobs = self[connection]
        del jobs[job]
        if not jobs:
            del self[connection]


class Lost(NamedTuple):
    """A job that died since the workers that had it were not heard of again."""

    job: str
    queue: str


class Workers(dict[str, Worker]):
    """All that are known, by id."""

    def __init__(self, facts: Facts, tell: Callable[[NamedType, Worker, int], None]) -> None:
        super().__init__()
        self._facts = facts
        self._tell = tell
        self.ids: Line[str] = Line(str)
        """All of them, in order."""
        self.by_connection: dict[str, str] = {}
        """Connection → worker, for those that have introduced themselves or asked for a job."""
        self.addresses: dict[str, str] = {}
        """Of connections, as the runtime knows them."""
        self.left_behind: set[str] = set()
        """Connections of which jobs have gone over to another one. What still comes from them is late, and takes no job back."""
        self.turned: dict[str, None] = {}
        """Those that were quieted or unquieted; the runtime empties it when it has seen to their waiting pulls."""
        self.lost: Lost | None = None
        """The last one, since the start."""
        self.done: int = 0
        self.failed: int = 0
        self.slots: int = 0
        """The concurrency of all."""

    def load(self, now: int) -> None:
        """Take over what the facts, just loaded, tell of."""
        for worker_id, since in self._facts.of(QUIET).items():
            self._add(worker_id, now).quiet_since = int(since)

    def take_up(self, job: Job, now: int) -> None:
        """List a loaded active job with its worker, which is silent from now on."""
        assert job.lease is not None
        name = job.lease.worker
        if name is not None and (name in self or len(self) < WORKERS_MAX):
            (self.get(name) or self._add(name, now)).jobs[job] = None

    @property
    def quiet(self) -> int:
        """How many get no jobs."""
        return len(self._facts.of(QUIET))

    def quieted(self) -> list[Worker]:
        """Return those that get no jobs."""
        return [self[worker_id] for worker_id in self._facts.of(QUIET)]

    def id_of(self, connection: str | None, named: str | None) -> str | None:
        """Return the id of who speaks over a connection, or names itself; None: nothing is known."""
        return named or self.by_connection.get(connection or "", connection)

    def of(self, lease: Lease) -> Worker | None:
        """Return who has a job, if it is known."""
        return self.get(lease.worker or lease.owner or "")

    def name_of(self, lease: Lease) -> str | None:
        """Return what people call the one who has a job: an address has an ``@`` before it; None: nothing is known."""
        worker = self.of(lease)
        if worker is None:
            return lease.worker or lease.owner
        return worker.name if worker.is_named or worker.name == worker.id else f"@{worker.name}"

    def heard(self, connection: str | None, named: str | None, now: int) -> Worker | None:
        """Note that somebody asks for a job; return who, None where that is not known, or too many are."""
        if named is not None:
            worker_id = named
        elif connection is not None:
            worker_id = self.by_connection.get(connection, connection)
        else:
            return None
        worker = self.get(worker_id)
        if worker is None:
            if len(self) >= WORKERS_MAX:
                return None
            worker = self._meet(worker_id, now, is_named=worker_id != connection and worker_id[0] != "@")
        worker.heard_at, worker.has_left = now, False
        if connection is not None and connection not in worker.connections:
            self.bind(worker, connection, now)
        return worker

    def register(self, worker_id: str, connection: str | None, now: int) -> Worker | None:
        """Return the worker of this id, known from now on; None where too many are."""
        worker = self.get(worker_id)
        if worker is None:
            if len(self) >= WORKERS_MAX:
                return None
            worker = self._meet(worker_id, now, is_named=True)
        elif not worker.is_named:
            worker.is_named = True
            self._tell("workerJoined", worker, now)
        worker.heard_at, worker.has_left = now, False
        if connection is not None:
            self.bind(worker, connection, now)
        return worker

    def bind(self, worker: Worker, connection: str, now: int) -> None:
        """Let a connection be of a worker, and of no other."""
        before = self.get(self.by_connection.get(connection, ""))
        self.by_connection[connection] = worker.id
        worker.connections.add(connection)
        worker.transport, worker.has_left = "websocket", False
        worker.address = self.addresses.get(connection)
        if worker.address is not None and not worker.is_named:
            worker.name = worker.address
        if before is not None and before is not worker:
            self._lose(before, connection, now, orderly=not before.is_named)

    def end(self, connection: str, now: int, *, dropped: bool) -> None:
        """Note the end of a connection: who does not come back is forgotten."""
        self.addresses.pop(connection, None)
        self.left_behind.discard(connection)
        worker = self.get(self.by_connection.pop(connection, ""))
        if worker is not None:
            self._lose(worker, connection, now, orderly=not dropped or not worker.is_named)

    def _lose(self, worker: Worker, connection: str, now: int, *, orderly: bool) -> None:
        worker.connections.discard(connection)
        worker.heard_at = now
        if not worker.connections and orderly:
            worker.has_left = True
            self._forget_if_idle(worker, now)

    def _forget_if_idle(self, worker: Worker, now: int) -> None:
        if not worker.jobs:
            self.forget(worker, now)

    def forget(self, worker: Worker, now: int) -> None:
        """Know nothing more of a worker that has no jobs."""
        del self[worker.id]
        self.ids.remove(worker.id)
        self.slots -= worker.concurrency
        self.unquiet(worker)
        if worker.is_named:
            self._tell("workerLost", worker, now)

    def forget_silent(self, now: int) -> None:
        """Forget those that have left, and those that were not heard of for long; whoever has a job or a connection stays."""
        for worker in [*self.values()]:
            worker.look(now)
            if not (worker.jobs or worker.connections) and (
                worker.has_left or worker.heard_at <= now - WORKER_SILENT_MS
            ):
                self.forget(worker, now)

    def set_quiet(self, worker: Worker, now: int) -> None:
        """Give no more jobs to a worker."""
        if worker.quiet_since is None:
            worker.quiet_since = now
            self._facts.set(QUIET, worker.id, b"%d" % now)
            self.turned[worker.id] = None

    def unquiet(self, worker: Worker) -> None:
        """Give jobs to a worker again."""
        if worker.quiet_since is not None:
            worker.quiet_since = None
            self._facts.delete(QUIET, worker.id)
            self.turned[worker.id] = None

    def is_quiet(self, worker_id: str | None) -> bool:
        """Return whether a worker gets no jobs."""
        worker = self.get(worker_id or "")
        return worker is not None and worker.quiet_since is not None

    def is_of_holder(self, connection: str, lease: Lease) -> bool:
        """Return whether a connection is another one of the worker that has a job over a connection, and was not left behind."""
        if connection == lease.owner or connection in self.left_behind:
            return False
        return self.by_connection.get(connection) == (lease.worker or lease.owner)

    def claim(self, job: Job, connection: str, now: int) -> None:
        """Note who goes on with a job over a connection that did not hold it before."""
        lease = job.lease
        assert lease is not None
        before, worker = self.of(lease), self.heard(connection, None, now)
        if before is not None:
            before.jobs.pop(job, None)
        lease.worker = None if worker is None or worker.id == connection else worker.id
        if worker is not None:
            worker.jobs[job] = None

    def let_go(self, job: Job) -> None:
        """Note that it is not known any more who has a job."""
        lease = job.lease
        assert lease is not None
        if (worker := self.of(lease)) is not None:
            worker.jobs.pop(job, None)
        lease.worker = None

    def _meet(self, worker_id: str, now: int, *, is_named: bool) -> Worker:
        worker = self._add(worker_id, now, is_named=is_named)
        if is_named:
            self._tell("workerJoined", worker, now)
        return worker

    def _add(self, worker_id: str, now: int, *, is_named: bool | None = None) -> Worker:
        named = worker_id[0] != "@" if is_named is None else is_named
        worker = self[worker_id] = Worker(worker_id, now, is_named=named)
        self.ids.add(worker_id)
        self.slots += worker.concurrency
        return worker
