"""Replies about workers; times in epoch ms."""

from msgspec import Struct

from bunqueue_trio.protocol.replies import Reply


class WorkerJob(Struct, kw_only=True, rename="camel"):
    """A job that a worker has: since when, how far it has said to be and the beginning of its message, when its lease ends (null: not by itself), and what is usual."""

    id: str
    queue: str
    since: int | None
    progress: int | float
    message: str | None
    progressed_at: int | None
    """When it has last said so."""
    lease_until: int | None
    usual: int | None = None
    """The ms that 95 of 100 jobs of its queue took at most within the last hour; null: too few ran."""


class WorkerView(Struct, kw_only=True, rename="camel"):
    """A worker as it was introduced, what it has, and what it has done."""

    id: str
    name: str
    queues: list[str]
    concurrency: int
    hostname: str
    pid: int
    version: str
    transport: str
    address: str | None
    """From where it is connected, if it is and the server knows."""
    status: str
    """``active``, ``quiet`` (it gets no jobs) or ``lost`` (its connection has dropped)."""
    quiet_since: int | None
    registered_at: int
    last_seen: int
    uptime: int
    active_jobs: int
    processed_jobs: int
    per_minute: float = 0.0
    """How many it completes in a minute, by the last one or two."""
    failed_jobs: int
    current_job: str | None
    jobs: list[WorkerJob]
    """The first 100."""


class WorkerFigures(Struct, kw_only=True, rename="camel"):
    """All workers together."""

    total: int
    active: int
    quiet: int
    total_processed: int
    total_failed: int
    active_jobs: int
    concurrency_slots: int


class WorkersPage(Struct, kw_only=True, rename="camel"):
    """Workers by id, figures of all, and behind which id the next page begins."""

    workers: list[WorkerView]
    stats: WorkerFigures
    next: str | None


class WorkersReply(Reply, kw_only=True):
    """Some of the workers."""

    data: WorkersPage


class RegisteredWorker(WorkerView, kw_only=True):
    """A worker and, once more, its id."""

    worker_id: str


class WorkerReply(Reply, kw_only=True):
    """One worker."""

    data: RegisteredWorker
