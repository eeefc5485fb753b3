"""Commands about those who work on jobs."""

from typing import Annotated, Any

from msgspec import Meta, field

from bunqueue_trio.errors import Fault
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol import worker_replies as wr
from bunqueue_trio.protocol.commands.base import Command, Count, EpochMs, Key
from bunqueue_trio.protocol.commands.spec import Again, Does, Example, Path, Role, Spec

Pid = Annotated[int, Meta(ge=0, le=2**53)]
Slots = Annotated[int, Meta(ge=1, le=1_000_000)]
Queues = Annotated[list[Key], Meta(max_length=100)]


class RegisterWorker(Command[wr.WorkerReply], kw_only=True, tag="RegisterWorker"):
    """Say who it is that works: over a WebSocket the one at its other end, over HTTP whoever pulls with ``owner`` as its id.

    Said again it replaces what was said before. Without ``workerId`` the server makes one.
    """

    worker_id: Key | None = None
    name: Key | None = None
    queues: Queues = field(default_factory=list)
    concurrency: Slots = 1
    hostname: Key = "unknown"
    pid: Pid = 0
    version: Key = "unknown"
    started_at: EpochMs | None = None


class WorkerHeartbeat(Command[r.DataReply], kw_only=True, tag="Heartbeat"):
    """Say that a worker is still there."""

    id: str = ""


class ListWorkers(Command[wr.WorkersReply], kw_only=True, tag="ListWorkers"):
    """List workers by id, each with its jobs; ``next`` is the ``after`` of the next page, null after the last.

    A page ends early with many jobs, or long texts.
    """

    limit: Count = 100
    after: Key | None = None


class QuietWorker(Command[r.DataReply], kw_only=True, tag="QuietWorker"):
    """Give no more jobs to a worker, until it is unquieted or has left; it keeps those that it has."""

    id: str = ""


class UnquietWorker(Command[r.DataReply], kw_only=True, tag="UnquietWorker"):
    """Give jobs to a worker again."""

    id: str = ""


class ReleaseWorker(Command[r.DataReply], kw_only=True, tag="ReleaseWorker"):
    """Return the jobs of a worker to their previous positions: no attempt is charged, and no stall."""

    id: str = ""


class UnregisterWorker(Command[r.DataReply], kw_only=True, tag="UnregisterWorker"):
    """Forget a worker that has no jobs; it is known again when it is next heard of."""

    id: str = ""


NO_WORKER = Fault(404, "Worker not found", "worker-not-found")
TOO_MANY_WORKERS = Fault(409, "More than {} workers would be known", "too-many-workers")
IS_QUIET = Fault(409, "Worker is quiet: unquiet it first", "worker-is-quiet")
IS_CONNECTED = Fault(409, "Worker is connected: it would be known again at once", "worker-is-connected")
HAS_JOBS = Fault(409, "Worker has active jobs: release them first", "worker-has-jobs")

_WORKER: dict[str, Any] = {
    "id": "w-1", "name": "mailer", "queues": ["emails"], "concurrency": 5, "hostname": "web-1", "pid": 4711,
    "version": "0.1.0", "transport": "websocket", "address": "10.0.0.7", "status": "active", "quietSince": None,
    "registeredAt": 1700000000000, "lastSeen": 1700000001000, "uptime": 1000, "activeJobs": 0, "processedJobs": 10,
    "perMinute": 10.0, "failedJobs": 1, "currentJob": None, "jobs": [],
}  # fmt: skip

SPECS: tuple[Spec, ...] = (
    Spec(
        ListWorkers, Does.READS, Path("GET", "/workers"), again=Again.FREELY, role=Role.READ, settled_by="nothing",
        example=Example(
            None,
            {
                "ok": True,
                "data": {
                    "workers": [_WORKER],
                    "stats": {
                        "total": 1, "active": 1, "quiet": 0, "totalProcessed": 10, "totalFailed": 1, "activeJobs": 0,
                        "concurrencySlots": 5,
                    },
                    "next": None,
                },
            },
        ),
    ),
    Spec(
        RegisterWorker, Does.NOTES, Path("POST", "/workers", optional_body=True), refuses=(TOO_MANY_WORKERS,),
        again=Again.FREELY, settled_by="nothing",
        example=Example(
            {"workerId": "w-1", "name": "mailer", "queues": ["emails"], "concurrency": 5, "hostname": "web-1", "pid": 4711},
            {"ok": True, "data": _WORKER | {"workerId": "w-1"}},
        ),
    ),
    Spec(
        WorkerHeartbeat, Does.NOTES, Path("POST", "/workers/:id/heartbeat", optional_body=True), refuses=(NO_WORKER,),
        again=Again.FREELY, settled_by="nothing", example=Example(None, {"ok": True, "data": {"ok": True}}),
    ),
    Spec(
        QuietWorker, Does.CHANGES, Path("POST", "/workers/:id/quiet", optional_body=True), refuses=(NO_WORKER,),
        again=Again.FREELY, role=Role.ADMIN, acts="workers quiet", example=Example(None, {"ok": True, "data": {"activeJobs": 1}}),
    ),
    Spec(
        UnquietWorker, Does.CHANGES, Path("POST", "/workers/:id/unquiet", optional_body=True), refuses=(NO_WORKER,),
        again=Again.FREELY, role=Role.ADMIN, acts="workers unquiet", example=Example(None, {"ok": True, "data": {"quiet": False}}),
    ),
    Spec(
        ReleaseWorker, Does.CHANGES, Path("POST", "/workers/:id/release", optional_body=True), refuses=(NO_WORKER,),
        role=Role.ADMIN, acts="workers release", example=Example(None, {"ok": True, "data": {"count": 1}}),
    ),
    Spec(
        UnregisterWorker, Does.CHANGES, Path("DELETE", "/workers/:id", optional_body=True), refuses=(NO_WORKER, HAS_JOBS, IS_QUIET, IS_CONNECTED),
        again=Again.GUARDED, acts="workers forget", example=Example(None, {"ok": True, "data": {"removed": True}}),
    ),
)  # fmt: skip
