"""Every command of the server as a typed struct; the types are the validation.

A struct is what arrives: over HTTP its fields come from path, query and body (see ``ROUTES``), over
WebSocket from one JSON object with ``cmd``. ``queue`` and ``id`` default to "" only because HTTP sets
them from the path; the WebSocket decoder insists on them. ``data`` and ``result`` stay the bytes that came in.
"""

from typing import Annotated

from msgspec import Meta, Raw, Struct

from bunqueue_trio.config import DAY_MS

EMPTY = Raw(b"")
"""Stands for "not given" where null is a legal value."""

# The ranges are the documented ones; they keep every sum of two of them far inside 64 bits.
Priority = Annotated[int, Meta(ge=-1_000_000, le=1_000_000)]
MS = {"read": "ms"}
"""Marks a time: a fraction of a ms is rounded up, since clients subtract and divide what they send."""
YearMs = Annotated[int, Meta(ge=0, le=365 * DAY_MS, extra=MS, extra_json_schema=MS)]
EveryMs = Annotated[int, Meta(ge=1, le=365 * DAY_MS, extra=MS, extra_json_schema=MS)]
DayMs = Annotated[int, Meta(ge=0, le=DAY_MS, extra=MS, extra_json_schema=MS)]
LockMs = Annotated[int, Meta(ge=1, le=DAY_MS, extra=MS, extra_json_schema=MS)]
PollMs = Annotated[
    int, Meta(ge=0, le=60_000, extra=MS, extra_json_schema=MS)
]  # a connection is not held longer for nothing
Attempts = Annotated[int, Meta(ge=1, le=1000)]
Runs = Annotated[int, Meta(ge=1, le=2**53)]  # the integers every JSON peer can count
Key = Annotated[str, Meta(min_length=1, max_length=256)]
TEXT_MAX = 65_536  # characters of an error text or a progress message: a traceback, not a log
ANY = {"read": "any"}
"""Marks a text that is made of whatever was sent: a failure that cannot be reported is worse than an ugly text."""
Text = Annotated[str, Meta(max_length=TEXT_MAX, extra=ANY, extra_json_schema=ANY)]
Name = Annotated[str, Meta(max_length=1024)]  # of any JSON client; a tag is a label
Tags = Annotated[list[Name], Meta(max_length=100)]
Dependencies = Annotated[list[Key], Meta(max_length=1000)]
Count = Annotated[int, Meta(ge=1, le=1000)]
Percent = Annotated[int, Meta(ge=0, le=100)] | Annotated[float, Meta(ge=0, le=100)]  # 50 stays 50
# One command is one step of the engine, during which nobody else is served: 10,000 jobs are 0.1 s.
BATCH_MAX = 10_000
JobIds = Annotated[list[Key], Meta(max_length=BATCH_MAX)]
Tokens = Annotated[list[Name], Meta(max_length=BATCH_MAX)]
Results = Annotated[list[Raw], Meta(max_length=BATCH_MAX)]


class Repeat(Struct, kw_only=True, rename="camel", frozen=True):
    """How a job repeats: every so many ms, at most ``limit`` runs (None: for ever)."""

    every: EveryMs
    limit: Runs | None = None


class Command(Struct, kw_only=True, rename="camel", tag_field="cmd"):
    """Base of all commands; ``req_id`` is echoed as it came and means nothing else."""

    req_id: Raw = EMPTY


class JobSpec(Command, kw_only=True, tag=False):
    """What a producer says of a job; the defaults are the contract's."""

    data: Raw = EMPTY
    priority: Priority = 0
    delay: YearMs = 0
    max_attempts: Attempts = 3
    backoff: DayMs = 1000
    ttl: YearMs | None = None
    timeout: DayMs | None = None
    unique_key: Key | None = None
    job_id: Key | None = None
    tags: Tags = []
    group_id: Key | None = None
    lifo: bool = False
    remove_on_complete: bool = False
    remove_on_fail: bool = False
    durable: bool = False
    depends_on: Dependencies = []
    repeat: Repeat | None = None


class Push(JobSpec, kw_only=True, tag="PUSH", tag_field="cmd"):
    """Add one job to a queue."""

    queue: str = ""


class PushBatch(Command, kw_only=True, tag="PUSHB"):
    """Add several jobs to a queue; one bad job refuses all."""

    queue: str = ""
    jobs: Annotated[list[JobSpec], Meta(max_length=BATCH_MAX)]


class Pull(Command, kw_only=True, tag="PULL"):
    """Take the next job of a queue; wait up to ``timeout`` ms for one."""

    queue: str = ""
    timeout: PollMs = 0
    lock_ttl: LockMs | None = None


class PullBatch(Command, kw_only=True, tag="PULLB"):
    """Take up to ``count`` jobs, fewer if they are large; wait up to ``timeout`` ms for the first."""

    queue: str = ""
    count: Count
    timeout: PollMs = 0
    lock_ttl: LockMs | None = None


class Ack(Command, kw_only=True, tag="ACK"):
    """Complete an active job, optionally with a result."""

    id: str = ""
    token: Name | None = None
    result: Raw = EMPTY


class AckBatch(Command, kw_only=True, tag="ACKB"):
    """Complete several active jobs; those that are not active are named in the answer."""

    ids: JobIds
    tokens: Tokens | None = None
    results: Results | None = None


class Fail(Command, kw_only=True, tag="FAIL"):
    """Report a failed attempt: the job is retried, or goes to the dead-letter queue."""

    id: str = ""
    token: Name | None = None
    error: Text | None = None


class Heartbeat(Command, kw_only=True, tag="JobHeartbeat"):
    """Renew the lease of an active job, for ``duration`` ms or as long as it was first given."""

    id: str = ""
    token: Name | None = None
    duration: LockMs | None = None


class HeartbeatBatch(Command, kw_only=True, tag="JobHeartbeatB"):
    """Renew several leases; the answer counts those that are still held."""

    ids: JobIds
    tokens: Tokens | None = None


class ExtendLock(Command, kw_only=True, tag="ExtendLock"):
    """Set the lease of an active job to end ``duration`` ms from now."""

    id: str = ""
    token: Name
    duration: LockMs


class Release(Command, kw_only=True, tag="Release"):
    """Return an active job to its previous position: no attempt is charged, and no stall."""

    id: str = ""
    token: Name


class Progress(Command, kw_only=True, tag="Progress"):
    """Report how far an active job is; this renews its lease too."""

    id: str = ""
    progress: Percent
    message: Text | None = None
    token: Name | None = None


class GetJob(Command, kw_only=True, tag="GetJob"):
    """Read a job."""

    id: str = ""


class GetState(Command, kw_only=True, tag="GetState"):
    """Read where a job stands, with everything the job view of the contract leaves out."""

    id: str = ""


class GetResult(Command, kw_only=True, tag="GetResult"):
    """Read the result of a completed job."""

    id: str = ""


class Cancel(Command, kw_only=True, tag="Cancel"):
    """Remove an unfinished job, an active one too."""

    id: str = ""


class Ping(Command, kw_only=True, tag="Ping"):
    """Ask whether the server answers."""


class Stats(Command, kw_only=True, tag="Stats"):
    """Read the server's statistics."""


class StopPull(Command, kw_only=True, tag="StopPull"):
    """Take back the waiting pull of the same ``reqId``."""


class Auth(Command, kw_only=True, tag="Auth"):
    """Authenticate a connection."""

    token: Name


class Subscribe(Command, kw_only=True, tag="Subscribe"):
    """Choose the events this connection gets: names, or ``*`` for all."""

    events: list[Name] | Name


class Unsubscribe(Command, kw_only=True, tag="Unsubscribe"):
    """Stop some events on this connection: names, or ``*`` (the default) for all."""

    events: list[Name] | Name = "*"


EngineCommand = (
    Push | PushBatch | Pull | PullBatch | Ack | AckBatch | Fail | Heartbeat | HeartbeatBatch
    | ExtendLock | Release | Progress | GetJob | GetState | GetResult | Cancel
)  # fmt: skip
"""What the engine answers; each has one row in its handler table."""

SessionCommand = Ping | Stats | StopPull | Auth | Subscribe | Unsubscribe
"""What a connection or the runtime answers without the engine."""

COMMANDS: dict[str, type[Command]] = {
    str(kind.__struct_config__.tag): kind
    for kind in (
        Push, PushBatch, Pull, PullBatch, Ack, AckBatch, Fail, Heartbeat, HeartbeatBatch, ExtendLock,
        Release, Progress, GetJob, GetState, GetResult, Cancel, Ping, Stats, StopPull, Auth, Subscribe, Unsubscribe,
    )
}  # fmt: skip
"""``cmd`` → command: everything this server understands."""

FILLS: frozenset[type[Command]] = frozenset({Push, PushBatch})
"""The commands that bring new work; under overload they are refused before those that empty the queues."""
