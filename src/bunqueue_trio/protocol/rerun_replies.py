"""Replies about reruns; times in epoch ms."""

from msgspec import Raw, Struct

from bunqueue_trio.protocol.replies import Reply


class RerunView(Struct, kw_only=True, rename="camel"):
    """A rerun as it was asked for, how far it is, and how what it has retried fares."""

    id: str
    filter: Raw
    count: int
    rate: int
    stop_at: int | float
    state: str
    """``first``, ``rest``, ``done`` (nothing is left to retry) or ``stopped``."""
    why: str | None
    """Why it has stopped, or why it stands still now."""
    started_at: int
    ended_at: int | None
    retried: int
    open: int
    """How many of these have not ended yet."""
    died: int
    refused: dict[str, int]
    """How many were left where they are, by the code of the refusal."""


class RerunReply(Reply, kw_only=True):
    """One rerun."""

    rerun: RerunView


class RerunsReply(Reply, kw_only=True):
    """The reruns under way, and the last that have ended."""

    reruns: list[RerunView]
