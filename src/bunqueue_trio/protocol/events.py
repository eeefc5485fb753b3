"""What happened, as readers hear it: the contract's twelve types, which everybody gets, and those that one asks for by name."""

from typing import Literal

from msgspec import UNSET, Raw, Struct, UnsetType

EventType = Literal[
    "pushed", "pulled", "completed", "failed", "progress", "stalled", "removed",
    "delayed", "duplicated", "retried", "waiting-children", "drained",
]  # fmt: skip

NamedType = Literal[
    "paused", "resumed", "cleaned", "promoted", "updated", "cancelling", "scheduled", "workerJoined", "workerLost",
]  # fmt: skip

EVENT_TYPES: frozenset[str] = frozenset(EventType.__args__)  # type: ignore[attr-defined]
"""What a reader gets who names none, and what ``*`` stands for."""

NAMED_TYPES: frozenset[str] = frozenset(NamedType.__args__)  # type: ignore[attr-defined]
"""What only those get who name it."""

REPORTED: frozenset[str] = frozenset({"completed", "failed"})
"""What tells of the end of an attempt, which its holder may have reported itself."""

ALL_TYPES = EVENT_TYPES | NAMED_TYPES

HEAD_BYTES = 4096
"""Of which queue and job an event is stands in its first bytes; behind them comes what clients have sent, and may be long to look through."""

EXTRA: dict[EventType, str] = {
    "pushed": "data", "failed": "error", "progress": "progress", "removed": "prev", "retried": "prev", "delayed": "delay",
}  # fmt: skip
"""Event type → the field that it has beside the four of all events; the other types have none."""

NAMED: dict[NamedType, tuple[str, ...]] = {
    "paused": ("queue", "reason", "until"),
    "resumed": ("queue",),
    "cleaned": ("queue", "count"),
    "promoted": ("queue", "job_id"),
    "updated": ("queue", "job_id", "reason"),
    "cancelling": ("queue", "job_id", "reason", "until"),
    "scheduled": ("queue", "job_id", "name"),
    "workerJoined": ("worker", "name"),
    "workerLost": ("worker", "name"),
}
"""Named type → its fields beside the type and the time; ``reason`` and ``until`` only where they were given."""


class Event(Struct, rename="camel", omit_defaults=True, gc=False):
    """One event; ``timestamp`` is epoch ms, the optional fields depend on the type.

    Of the contract's twelve each has a queue and a job; an empty one means that the event is of none.
    """

    event_type: EventType | NamedType
    queue: str = ""
    job_id: str = ""
    timestamp: int = -1
    data: Raw | UnsetType = UNSET
    error: str | UnsetType = UNSET
    progress: int | float | UnsetType = UNSET
    prev: str | UnsetType = UNSET
    delay: int | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    until: int | UnsetType = UNSET
    count: int | UnsetType = UNSET
    worker: str | UnsetType = UNSET
    name: str | UnsetType = UNSET


def chosen(names: list[str] | str) -> frozenset[str]:
    """Return the types that a reader names; ``*`` stands for the contract's twelve.

    Raises:
        ValueError: there is no such type; it says which there are.
    """
    found: set[str] = set()
    for name in [names] if isinstance(names, str) else names:
        if name == "*":
            found |= EVENT_TYPES
        elif name in ALL_TYPES:
            found.add(name)
        else:
            raise ValueError(f"must be event types or *, not {name[:50]!r}; there are {', '.join(sorted(ALL_TYPES))}")
    return frozenset(found)


def without_data(body: bytes) -> bytes:
    """Return an event as it was published, without its payload if that is large: to read one takes 2 ms for each megabyte of small values."""
    if len(body) <= HEAD_BYTES:
        return body
    # The last field where it is there; within a text its quotes would be escaped.
    place = body.find(b',"data":', 0, HEAD_BYTES)
    return body if place < 0 else body[:place] + b"}"
