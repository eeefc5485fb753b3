"""Replies about what is kept of a job's past: its log, its failed attempts, and all that happened to it; times in epoch ms."""

from bunqueue_trio.protocol.lines import Attempt, LogPage, Moment
from bunqueue_trio.protocol.replies import Reply


class LogsReply(Reply, kw_only=True):
    """Part of the log of a job, oldest line first."""

    data: LogPage


class AttemptsReply(Reply, kw_only=True):
    """The last failed attempts of a job, oldest first."""

    attempts: list[Attempt]


class TimelineReply(Reply, kw_only=True):
    """What happened to a job, oldest first; ``state`` is null where it is not there any more.

    ``gap``: older events are not kept any more, so something may be missing. ``next`` is the ``after`` of the next page, null after the last.
    """

    id: str
    state: str | None
    entries: list[Moment]
    scanned: int
    complete: bool
    gap: bool
    next: str | None
