"""What is shown of a group of dead letters that died of the same fault."""

from msgspec import Struct


class GroupExample(Struct, kw_only=True, rename="camel"):
    """The newest dead letter of a group, with the beginning of its error; where there is none, the job that is tried next: its reason is ``retrying``."""

    id: str
    queue: str
    entered_at: int
    reason: str
    error: str


class InCommon(Struct, kw_only=True, rename="camel"):
    """What all of the ``sampled`` newest dead letters of a group have; ``keys`` are those of payloads that are objects."""

    sampled: int
    tags: list[str]
    group_id: str | None
    keys: list[str]


class ErrorGroup(Struct, kw_only=True, rename="camel"):
    """The dead letters that died of the same fault; ``shape`` is their error without what differs. Times in epoch ms."""

    fingerprint: str
    shape: str
    count: int
    retrying: int = 0
    """Jobs that have failed with it and wait for another attempt."""
    next_try_at: int | None = None
    """When the first of them is, or was, ready."""
    first_seen: int
    last_seen: int
    queues: dict[str, int]
    """How many of the dead letters are in each queue; of more than 100 queues those with most."""
    retrying_queues: dict[str, int] = {}
    """The same of those that are tried again."""
    example: GroupExample
    common: InCommon
    mark: str | None = None
    """What somebody has said of it: ``fixed``, ``muted`` (nobody wants to hear of it), or ``back``: it was said to be fixed, and is not."""
    marked_at: int | None = None
