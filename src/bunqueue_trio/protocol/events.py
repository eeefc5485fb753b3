"""What happened to a job, as every reader hears it: the contract's twelve types and fields."""

from typing import Literal

from msgspec import UNSET, Raw, Struct, UnsetType

EventType = Literal[
    "pushed", "pulled", "completed", "failed", "progress", "stalled", "removed",
    "delayed", "duplicated", "retried", "waiting-children", "drained",
]  # fmt: skip

EVENT_TYPES: frozenset[str] = frozenset(EventType.__args__)  # type: ignore[attr-defined]

EXTRA: dict[EventType, str] = {
    "pushed": "data", "failed": "error", "progress": "progress", "removed": "prev", "retried": "prev", "delayed": "delay",
}  # fmt: skip
"""Event type → the field that it has beside the four of all events; the other types have none."""


class Event(Struct, rename="camel", omit_defaults=True):
    """One event; ``timestamp`` is epoch ms, the optional fields depend on the type."""

    event_type: EventType
    queue: str
    job_id: str
    timestamp: int
    data: Raw | UnsetType = UNSET
    error: str | UnsetType = UNSET
    progress: int | float | UnsetType = UNSET
    prev: str | UnsetType = UNSET
    delay: int | UnsetType = UNSET
