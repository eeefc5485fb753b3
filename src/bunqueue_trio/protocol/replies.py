"""Every reply as a struct; encoding one gives the body of the contract, field by field."""

from types import NoneType
from typing import cast

from msgspec import UNSET, Raw, Struct, UnsetType

from bunqueue_trio.protocol.groups import ErrorGroup
from bunqueue_trio.protocol.lines import Action

NULL = Raw(b"null")


class Reply(Struct, rename="camel", gc=False):
    """A success: ``{"ok": true, …}``."""

    ok: bool = True


class ErrorReply(Reply, kw_only=True):
    """A refusal. ``code`` says which, for programs; it is left out where the reference of the API shows the text."""

    ok: bool = False
    error: str
    code: str | UnsetType = UNSET


class DeliveredJob(Struct, rename="camel", gc=False):
    """The eight fields of a job that PULL gives, and its name if it has one."""

    id: str
    queue: str
    data: Raw
    priority: int
    created_at: int
    attempts: int
    max_attempts: int
    progress: int | float
    name: str | UnsetType = UNSET


class BackoffView(Struct, kw_only=True, rename="camel", omit_defaults=True):
    """A backoff that was given as an object, as it was given."""

    type: str
    delay: int
    max_delay: int | UnsetType = UNSET
    jitter: int | float | UnsetType = UNSET


class JobView(Struct, kw_only=True, rename="camel", gc=False):
    """The sixteen fields of a job that GET gives, and its name if it has one; times in epoch ms."""

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
    name: str | UnsetType = UNSET


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


class SubscribedReply(Reply, kw_only=True):
    """The types of events that the connection gets now, by name."""

    subscribed: list[str]


class StopReply(Reply, kw_only=True):
    """Whether the pull was taken back; its own answer, empty then, comes all the same."""

    stopped: bool


class DataReply(Reply, kw_only=True):
    """Success with facts beside it."""

    data: dict[str, object] | UnsetType = UNSET


class Failed(Struct, kw_only=True, rename="camel"):
    """What became of several failures: when each is tried again, in ms since 1970, and which of their jobs were not active."""

    run_at: list[int | None]
    ignored_ids: list[str] | UnsetType = UNSET


class FailBatchReply(Reply, kw_only=True):
    """What became of several failures."""

    data: Failed


class JobReply(Reply, kw_only=True):
    """One job."""

    job: JobView


class ListedJob(JobView, kw_only=True):
    """The fields of a job that GET gives, and where it stands; of a dead letter, of what kind its end was."""

    state: str
    error: str | None
    reason: str | None


class JobsReply(Reply, kw_only=True):
    """Jobs, and behind which place the next page begins."""

    jobs: list[ListedJob]
    next: str | None


class FoundReply(Reply, kw_only=True):
    """Jobs, how many were looked at for them, and behind which place the next page begins.

    ``complete`` is false if the page ended because that were enough, and not because it is full or these are all. ``count`` is how many
    were found, where that was asked for instead of the jobs.
    """

    jobs: list[ListedJob]
    count: int | UnsetType = UNSET
    scanned: int
    complete: bool
    next: str | None


class ActReply(Reply, kw_only=True):
    """To how many jobs it was done, to how many not, by the code of what forbade it, how many were looked at, and where to go on.

    ``examples`` are the first three that it is done to, as they were before. Where a cancellation has a grace, ``ending`` are those of ``count`` that their
    workers have time to end: they are active still.
    """

    count: int
    ending: int = 0
    refused: dict[str, int]
    scanned: int
    examples: list[ListedJob]
    next: str | None


class DeadLetter(Struct, kw_only=True, rename="camel"):
    """A job that failed for good: when, of what kind its end was, and what its last error said."""

    job: JobView
    entered_at: int | None
    reason: str
    error: str | None
    fingerprint: str | None = None
    """Of its error: those of the same fault have the same."""
    retry_count: int = 0
    """How often its queue has retried it by itself."""
    next_retry_at: int | None = None
    """When it does so next, in epoch ms; null: not by itself."""


class GroupsReply(Reply, kw_only=True):
    """Groups of dead letters, largest first, how many groups there are, and behind which place the next page begins."""

    groups: list[ErrorGroup]
    total: int
    next: str | None


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


class PurgeReply(Reply, kw_only=True):
    """How many dead letters were deleted, how many there still are, and where to go on."""

    count: int
    left: int
    next: str | None


class DrainReply(Reply, kw_only=True):
    """How many jobs were removed, how many there still are to remove, and behind which place they are, if very much that stays is before that."""

    count: int
    left: int
    next: str | None = None


class PromoteReply(Reply, kw_only=True):
    """How many jobs were made ready, how many of the queue are still delayed, and ``next`` as of a drain."""

    count: int
    left: int
    next: str | None = None


class CleanReply(Reply, kw_only=True):
    """Which jobs were removed, how many were looked at, and behind which place the next page begins.

    ``bytes``: about what the removed ones took of the file.
    """

    count: int
    ids: list[str]
    scanned: int
    bytes: int
    next: str | None


class ObliterateReply(Reply, kw_only=True):
    """How many jobs and records were removed, and whether nothing is left of the queue."""

    count: int
    done: bool


class CancelledView(Struct, kw_only=True, rename="camel"):
    """When a job was cancelled, until when its worker may go on, why and by whom; times in epoch ms."""

    at: int
    until: int | None
    reason: str | None
    by: str | None


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
    cancelled: CancelledView | None = None
    discarded_by: str | None = None


class WhyReply(Reply, kw_only=True):
    """Why a job is not running, or how it ended: a code for programs, a sentence for people, and the numbers that go with it.

    Times in epoch ms. A number that says nothing about this job is null.
    """

    id: str
    queue: str
    state: str
    code: str
    why: str
    attempts: int
    """Failed tries."""
    since: int | None = None
    until: int | None = None
    """When that ends by itself."""
    position: int | None = None
    """1: it is the next of its queue."""
    higher: int | None = None
    """How many of those before it have a higher priority."""
    exact: bool | None = None
    """Whether both are; else there are more than that."""
    active: int | None = None
    limit: int | None = None
    pulls_waiting: int | None = None
    usual: int | None = None
    """Of an active one: the ms that 95 % of those of its queue did not exceed in the last hour, or else in the last week."""
    waits_for: list[str] | None = None
    """The first 20 of the jobs that must complete before it."""
    waits_for_count: int | None = None
    expires_at: int | None = None
    """When it is removed if nobody has got it by then: the end of its TTL."""


class StatsReply(Reply, kw_only=True):
    """The server's statistics: figures by name, as ``GET /stats`` shows them."""

    stats: dict[str, int]
    memory: dict[str, int]
    collections: dict[str, int]


class ProgressReply(Reply, kw_only=True):
    """How far a job is, in the words of its worker, and when, in epoch ms, that was last said; null: never."""

    progress: int | float
    message: str | None
    at: int | None


class ResultReply(Reply, kw_only=True):
    """The result of a completed job, as it was sent; null when there is none: ``state`` and ``error`` tell who waits for it why."""

    id: str
    result: Raw
    state: str | UnsetType = UNSET
    error: str | UnsetType | None = UNSET


class WaitReply(Reply, kw_only=True):
    """How a job has ended, also as ``removed``; or where it stands, if it has not in time."""

    id: str
    result: Raw
    state: str
    error: str | None = None
    completed: bool


class ActionsReply(Reply, kw_only=True):
    """What operators did, how much of it is kept, and behind which place the next page begins."""

    actions: list[Action]
    total: int
    next: str | None


def payload_size(reply: Reply) -> int:
    """Return about how many bytes the encoded ``reply`` will hold, of payloads and texts."""
    kind = type(reply)
    if kind is PushReply or (kind is DataReply and reply.data is UNSET):  # type: ignore[attr-defined] # nearly all
        return 0
    if kind is PullReply:
        job = reply.job  # type: ignore[attr-defined]
        return 0 if job is None else len(memoryview(job.data))
    match reply:
        case JobReply(job=JobView(data=data)) | ResultReply(result=data) | WaitReply(result=data):
            return len(memoryview(data))
        case PushBatchReply(ids=ids):
            return sum(map(len, ids))
        case PullBatchReply(jobs=jobs):
            return sum(len(memoryview(job.data)) for job in jobs)
        case _:
            return _weight(reply)


def _weight(value: object) -> int:
    """Return the bytes of payloads and texts in a reply of any kind, however deep; numbers are for nothing."""
    # By exact types: a list of 1,000 jobs has 20,000 values, and most are texts and numbers.
    kind = type(value)
    if kind is str:
        return len(cast("str", value))
    if kind in _WEIGHTLESS:
        return 0
    match value:
        case Raw():
            return len(memoryview(value))
        case Struct():
            size = 0
            for name in value.__struct_fields__:
                inner = getattr(value, name)
                inner_kind = type(inner)
                if inner_kind is str:
                    size += len(inner)
                elif inner_kind not in _WEIGHTLESS:
                    size += _weight(inner)
            return size
        case list():
            return sum(map(_weight, value))
        case dict():
            return sum(_weight(key) + _weight(inner) for key, inner in value.items())
        case _:
            return 0


_WEIGHTLESS = frozenset({int, float, bool, NoneType, UnsetType})


OK = DataReply()
EMPTY_PULL = PullReply()
"""The answer to a pull that found nothing."""


def fence(token: str) -> int:
    """Return the fencing number in a lock token: a UUIDv7's first 60 bits without the version.

    They are a time and a counter, greater for each later delivery of the same job, over restarts of the
    server and steps of its clock, and fit the signed 64-bit integers of databases.
    """
    return int(token[0:8] + token[9:13] + token[15:18], 16)
