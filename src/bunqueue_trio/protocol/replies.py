"""Every reply as a struct; encoding one gives the body of the contract, field by field."""

from msgspec import UNSET, Raw, Struct, UnsetType

from bunqueue_trio.errors import Refused

NULL = Raw(b"null")


class Reply(Struct, rename="camel"):
    """A success: ``{"ok": true, …}``."""

    ok: bool = True


class ErrorReply(Reply, kw_only=True):
    """A refusal. ``code`` says which, for programs; it is left out where the reference of the API shows the whole answer."""

    ok: bool = False
    error: str
    code: str | UnsetType = UNSET


def error_reply(refused: Refused, *, coded: bool) -> ErrorReply:
    """Return what says ``refused``, with its code if the answer to this command is to be ``coded``."""
    return ErrorReply(error=str(refused), code=(refused.code or UNSET) if coded else UNSET)


class DeliveredJob(Struct, rename="camel"):
    """The eight fields of a job that PULL gives."""

    id: str
    queue: str
    data: Raw
    priority: int
    created_at: int
    attempts: int
    max_attempts: int
    progress: int | float


class BackoffView(Struct, kw_only=True, rename="camel", omit_defaults=True):
    """A backoff that was given as an object, as it was given."""

    type: str
    delay: int
    max_delay: int | UnsetType = UNSET
    jitter: int | float | UnsetType = UNSET


class JobView(Struct, kw_only=True, rename="camel"):
    """The sixteen fields of a job that GET gives; times in epoch ms."""

    id: str
    queue: str
    data: Raw
    priority: int
    created_at: int
    run_at: int
    started_at: int | None
    completed_at: int | None
    attempts: int
    max_attempts: int
    backoff: int | BackoffView
    progress: int | float
    tags: list[str]
    lifo: bool
    remove_on_complete: bool
    remove_on_fail: bool


class PushReply(Reply, kw_only=True):
    """The id of the job that was added, or of the one that stood for it already."""

    id: str = ""


class PushBatchReply(Reply, kw_only=True):
    """The ids, in the order of the jobs."""

    ids: list[str] = []


class PullReply(Reply, kw_only=True):
    """A job and its lock token, or null twice."""

    job: DeliveredJob | None = None
    token: str | None = None


class PullBatchReply(Reply, kw_only=True):
    """Jobs and their lock tokens, in the same order."""

    jobs: list[DeliveredJob] = []
    tokens: list[str] = []


class StopReply(Reply, kw_only=True):
    """Whether the pull was taken back; its own answer, empty then, comes all the same."""

    stopped: bool


class DataReply(Reply, kw_only=True):
    """Success with facts beside it."""

    data: dict[str, object] | UnsetType = UNSET


class JobReply(Reply, kw_only=True):
    """One job."""

    job: JobView


class ListedJob(JobView, kw_only=True):
    """The fields of a job that GET gives, and where it stands."""

    state: str
    error: str | None


class JobsReply(Reply, kw_only=True):
    """Jobs, and behind which place the next page begins."""

    jobs: list[ListedJob]
    next: str | None


class DeadLetter(Struct, kw_only=True, rename="camel"):
    """A job that failed for good: when, of what kind its end was, and what its last error said."""

    job: JobView
    entered_at: int | None
    reason: str
    error: str | None


class DeadReply(Reply, kw_only=True):
    """Dead letters, how many there are, and behind which place the next page begins."""

    entries: list[DeadLetter]
    total: int
    next: str | None


class RetryReply(Reply, kw_only=True):
    """How many dead letters wait again, how many there still are, and where to go on."""

    count: int
    left: int
    next: str | None


class StateReply(Reply, kw_only=True):
    """Where a job stands, and what the job view of the contract leaves out."""

    id: str
    state: str
    queue: str
    error: str | None
    message: str | None
    stalls: int
    ttl: int | None
    timeout: int | None
    unique_key: str | None
    group_id: str | None
    depends_on: list[str]
    waiting_on: list[str]
    repeat: Raw
    lease_until: int | None


class StatsReply(Reply, kw_only=True):
    """The server's statistics: figures by name, as ``GET /stats`` shows them."""

    stats: dict[str, int]
    memory: dict[str, int]
    collections: dict[str, int]


class ResultReply(Reply, kw_only=True):
    """The result of a completed job, as it was sent; null when there is none."""

    id: str
    result: Raw


class PauseView(Struct, rename="camel"):
    """Why a queue is paused, since when and until when, in epoch ms."""

    reason: str | None
    since: int
    until: int | None


class QueueView(Struct, kw_only=True, rename="camel"):
    """One queue, as it is now; times in epoch ms."""

    name: str
    paused: bool
    pause: PauseView | None
    counts: dict[str, int]
    oldest_ready_at: int | None
    next_due_at: int | None
    pulls_waiting: int
    concurrency: int | None
    """How many jobs may be active at once; null: any number."""


class ConcurrencyReply(Reply, kw_only=True):
    """How many jobs of a queue may be active at once, null for any number, and how many are."""

    concurrency: int | None
    active: int


class QueueReply(Reply, kw_only=True):
    """One queue."""

    queue: QueueView


class QueuesReply(Reply, kw_only=True):
    """Names of queues in order, details of the same queues if they were asked for, and behind which name to go on."""

    queues: list[str]
    details: list[QueueView] | UnsetType = UNSET
    next: str | None


class CountsReply(Reply, kw_only=True):
    """How many jobs of a queue are in each state."""

    counts: dict[str, int]


class CountReply(Reply, kw_only=True):
    """How many jobs of a queue are still to be delivered."""

    count: int


class PriorityCountsReply(Reply, kw_only=True):
    """How many jobs of a queue are ready at each priority."""

    queue: str
    counts: dict[str, int]


class PausedReply(Reply, kw_only=True):
    """Whether a queue is paused: why, since when and until when, in epoch ms."""

    paused: bool
    reason: str | None = None
    since: int | None = None
    until: int | None = None


def payload_size(reply: Reply) -> int:
    """Return about how many bytes the encoded ``reply`` will hold, of payloads and texts."""
    kind = type(reply)
    if kind is PushReply or (kind is DataReply and reply.data is UNSET):  # type: ignore[attr-defined] # nearly all
        return 0
    match reply:
        case PullReply(job=DeliveredJob(data=data)) | JobReply(job=JobView(data=data)) | ResultReply(result=data):
            return len(memoryview(data))
        case PullBatchReply(jobs=jobs):
            return sum(len(memoryview(job.data)) for job in jobs)
        case _:
            return _weight(reply)


def _weight(value: object) -> int:
    """Return the bytes of payloads and texts in a reply of any kind, however deep; numbers are for nothing."""
    match value:
        case Raw():
            return len(memoryview(value))
        case str():
            return len(value)
        case list():
            return sum(map(_weight, value))
        case dict():
            return sum(_weight(key) + _weight(inner) for key, inner in value.items())
        case Struct():
            return sum(_weight(getattr(value, name)) for name in value.__struct_fields__)
        case _:
            return 0


OK = DataReply()
EMPTY_PULL = PullReply()
"""The answer to a pull that found nothing."""


def fence(token: str) -> int:
    """Return the fencing number in a lock token: a UUIDv7's first 60 bits without the version.

    They are a time and a counter, greater for each later delivery of the same job, over restarts of the
    server and steps of its clock, and fit the signed 64-bit integers of databases.
    """
    return int(token[0:8] + token[9:13] + token[15:18], 16)
