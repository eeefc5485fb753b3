"""Replies about queues: what they hold, whether they are paused, and what limits them; times in epoch ms."""

from msgspec import UNSET, Struct, UnsetType, field

from bunqueue_trio.protocol.replies import Reply


class PauseView(Struct, rename="camel"):
    """Why a queue is paused, since when and until when, in epoch ms, and by whom, as far as that is kept."""

    reason: str | None
    since: int
    until: int | None
    by: str | None


class RateView(Struct, rename="camel"):
    """At most ``limit`` deliveries in any window of ``duration`` ms."""

    limit: int
    duration: int


class FlowView(Struct, rename="camel"):
    """How many jobs came in a time, and how many went out: completed or died."""

    in_: int = field(name="in")
    out: int


class LatelyView(Struct, kw_only=True, rename="camel"):
    """What went on in a queue within the last whole minute and the last hour, and how long jobs ran: in ms, half and 95 % of them no longer."""

    minute: FlowView
    hour: FlowView
    p50: int | None
    p95: int | None


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
    rate_limit: RateView | None
    opens_at: int | None
    """When the rate limit leaves room again, while it leaves none."""
    lately: LatelyView | None
    """Null: nothing has happened within the last hour, or far less than in others."""
    set: list[str]
    """What was said of it beside pauses and limits: ``defaults``, ``stall-config``, ``dlq-config``."""


class FigureView(Struct, kw_only=True, rename="camel"):
    """What went on in a queue within a minute or an hour, and what was in it at the end, ``at``; times in ms."""

    at: int
    pushed: int
    completed: int
    failed: int
    """Attempts, as are the next two."""
    stalled: int
    retried: int
    waiting: int
    dead: int
    oldest: int
    """For how long the oldest was ready."""
    run: int | None
    """How long those that completed have run, on average; null: none has."""
    p50: int | None
    p95: int | None
    """95 % of them ran for no longer, within half of it."""


class FiguresReply(Reply, kw_only=True):
    """What went on in a queue lately, oldest first; periods in which nothing was there are left out."""

    queue: str
    minutes: list[FigureView]
    hours: list[FigureView]
    usual: int | None
    """95 % of the jobs of the last hour, or else of the week, ran for no longer, within half of it; null: none has run."""


class ConcurrencyReply(Reply, kw_only=True):
    """How many jobs of a queue may be active at once, null for any number, and how many are."""

    concurrency: int | None
    active: int


class RateLimitReply(Reply, kw_only=True):
    """How many deliveries of a queue may be in any window of time, null for any number, and how many count now.

    Times in epoch ms: until when the limit holds, and when it leaves room again, while it leaves none.
    """

    limit: int | None
    duration: int | None = None
    until: int | None = None
    used: int = 0
    opens_at: int | None = None


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
