"""The lines of trails as clients see them, and as they are stored: acts, attempts, and the logs of jobs."""

from msgspec import UNSET, Struct, UnsetType


class Action(Struct, kw_only=True, rename="camel"):
    """What an operator did: when, who and from where, which command, to which queue, job or worker, and how many it has changed.

    ``who`` is the name of a token, ``token`` for one without a name, and the address where none is asked for.
    """

    at: int
    who: str
    address: str
    command: str
    queue: str | None = None
    job: str | None = None
    worker: str | None = None
    fields: dict[str, object] = {}
    """The other fields that it was sent with, but for payloads."""
    count: int
    before: dict[str, object] | UnsetType = UNSET
    """What settings, limits, pauses, marks, priorities and schedules were before it; of others it is left out."""
    slices: int | UnsetType = UNSET
    """In how many steps it was done, if that were several: ``at`` is when it began, and ``count`` the sum of all."""


class LogLine(Struct, kw_only=True, rename="camel"):
    """A line that was written into the log of a job, and when."""

    timestamp: int
    level: str
    message: str


class LogPage(Struct, kw_only=True, rename="camel"):
    """Lines of a log, how many are kept, and behind which place the next page begins."""

    logs: list[LogLine]
    count: int
    next: str | None


class Attempt(Struct, kw_only=True, rename="camel"):
    """An attempt that failed: which one it was, when and for how long, why it ended, and what its holder said of it.

    A stall is none of the attempts that a job has: it has the number of the next one. ``by`` is who held
    the job: the worker's name, or an address behind an ``@``.
    """

    attempt: int
    started_at: int
    failed_at: int
    duration: int
    reason: str
    by: str | None
    error: str
    stack: str | None


class Moment(Struct, kw_only=True, rename="camel", omit_defaults=True):
    """Something that happened to a job: when, and ``what``, with the fields that go with it.

    ``what`` is the type of an event, or ``died``, ``cancelled`` and ``discarded`` where a job has ended so, or ``act`` for what somebody has done: ``command``, with its ``fields``.
    """

    at: int
    what: str
    by: str | UnsetType = UNSET
    attempt: int | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    error: str | UnsetType = UNSET
    until: int | UnsetType = UNSET
    progress: int | float | UnsetType = UNSET
    message: str | UnsetType = UNSET
    command: str | UnsetType = UNSET
    fields: dict[str, object] | UnsetType = UNSET
