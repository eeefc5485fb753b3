"""What the server knows of a job, and the JSON of payloads and results. Times are seconds, as everywhere in the client."""

import json
from typing import Any

import msgspec
from msgspec import Raw

from bunqueue_trio.protocol.numbers import integer
from bunqueue_trio.protocol.options import Backoff, backoff_of
from bunqueue_trio.protocol.replies import JobView


def decode(raw: Raw | bytes) -> Any:
    """Return the JSON value; where the quick parser is stricter than the server, the standard one reads it."""
    try:
        return msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return json.loads(bytes(raw), parse_int=integer)


def encoded(value: Any) -> Raw | None:
    """Return the JSON of a result; None for none.

    Raises:
        TypeError: it has no JSON.
    """
    return None if value is None else Raw(msgspec.json.encode(value))


class JobInfo:
    """What the server knows of a job; times in seconds since the epoch."""

    id: str
    queue: str
    name: str | None
    data: Any
    priority: int
    created_at: float
    run_at: float
    started_at: float | None
    completed_at: float | None
    attempts: int
    max_attempts: int
    backoff: float | Backoff
    progress: int | float
    tags: list[str]

    def __init__(self, view: JobView) -> None:
        self.id = view.id
        self.queue = view.queue
        self.name = view.name or None
        self.data = decode(view.data)
        self.priority = view.priority
        self.created_at = view.created_at / 1000
        self.run_at = view.run_at / 1000
        self.started_at = None if view.started_at is None else view.started_at / 1000
        self.completed_at = None if view.completed_at is None else view.completed_at / 1000
        self.attempts = view.attempts
        self.max_attempts = view.max_attempts
        self.backoff = backoff_of(view.backoff)
        self.progress = view.progress
        self.tags = view.tags

    def __repr__(self) -> str:
        return f"<JobInfo {self.id} of {self.queue}>"
