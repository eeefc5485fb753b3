"""Commands that bring new jobs."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field

from bunqueue_trio import errors
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.commands.base import (
    BATCH_MAX,
    EMPTY,
    Attempts,
    Command,
    DayMs,
    Dependencies,
    EveryMs,
    Key,
    Names,
    Priority,
    Runs,
    Share,
    YearMs,
)
from bunqueue_trio.protocol.commands.spec import EXAMPLE_ID, Does, Example, Path, Spec


class Repeat(Struct, kw_only=True, rename="camel", frozen=True):
    """How a job repeats: every ``every`` ms, at most ``limit`` runs (None: for ever), and what the list of schedules calls it."""

    every: EveryMs
    limit: Runs | None = None
    name: Key | None = None


class Backoff(Struct, kw_only=True, rename="camel", frozen=True, omit_defaults=True):
    """How long a failed job waits for its next attempt: ``delay`` each time, or doubled with each one.

    Never more than ``maxDelay``. With ``jitter`` 0.2 it is up to a fifth shorter, differently for each job and attempt.
    """

    type: Literal["fixed", "exponential"]
    delay: DayMs
    max_delay: DayMs | None = None
    jitter: Share | None = None


class PushSpec(Command[r.PushReply], kw_only=True, tag=False):
    """What a producer says of a job; what it does not say is the queue's to say, or else as the contract has it."""

    data: Raw = EMPTY
    priority: Priority = 0
    delay: YearMs = 0
    max_attempts: Attempts | UnsetType = UNSET
    backoff: DayMs | Backoff | UnsetType = UNSET
    ttl: YearMs | None = None
    timeout: DayMs | None = None
    unique_key: Key | None = None
    job_id: Key | None = None
    tags: Names = field(default_factory=list)
    group_id: Key | None = None
    lifo: bool = False
    remove_on_complete: bool | UnsetType = UNSET
    remove_on_fail: bool | UnsetType = UNSET
    durable: bool = False
    depends_on: Dependencies = field(default_factory=list)
    repeat: Repeat | None = None
    name: Key | None = None
    """What kind of job it is within its queue: by it a worker chooses the handler."""


PUSH_DEFAULTS: dict[str, int | bool] = {
    "max_attempts": 3, "backoff": 1000, "remove_on_complete": False, "remove_on_fail": False,
}  # fmt: skip
"""What the contract says where neither a push nor its queue does, of the fields that know whether they were said."""


class JobSpec(PushSpec, kw_only=True, tag=False):
    """One of the jobs of a bulk push."""

    custom_id: Key | None = None
    """The same as ``job_id``, as the original calls it in a bulk push; ``job_id`` counts where both are said."""


class Push(PushSpec, kw_only=True, tag="PUSH", tag_field="cmd"):
    """Add one job to a queue."""

    queue: str = ""


class PushBatch(Command[r.PushBatchReply], kw_only=True, tag="PUSHB"):
    """Add several jobs to a queue; one bad job refuses all."""

    queue: str = ""
    jobs: Annotated[list[JobSpec], Meta(max_length=BATCH_MAX)]


_REFUSES = (errors.UNKNOWN_DEPENDENCY, errors.FOREIGN_JOB_ID)

SPECS: tuple[Spec, ...] = (
    Spec(
        Push, Does.CHANGES, Path("POST", "/queues/:queue/jobs"), refuses=_REFUSES, fills=True, timed="push", contract=True,
        example=Example(
            {
                "data": {"to": "user@test.com", "subject": "Welcome"}, "priority": 10, "delay": 5000, "maxAttempts": 5,
                "backoff": 2000, "ttl": 86400000, "timeout": 30000, "uniqueKey": "email-user-123",
                "tags": ["email", "onboarding"], "groupId": "batch-1", "repeat": {"every": 60000, "limit": 10},
            },
            {"ok": True, "id": EXAMPLE_ID},
        ),
    ),
    Spec(
        PushBatch, Does.CHANGES, Path("POST", "/queues/:queue/jobs/bulk"), refuses=_REFUSES, fills=True, timed="push",
        example=Example(
            {"jobs": [{"data": 1}, {"data": 2, "delay": 5000}]}, {"ok": True, "ids": [EXAMPLE_ID, EXAMPLE_ID]}
        ),
    ),
)  # fmt: skip
