"""A job as a worker gets it, and as anybody may look at it. Times are seconds, as everywhere in the client."""

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw

from bunqueue_trio.protocol.replies import DeliveredJob, JobView

if TYPE_CHECKING:
    from bunqueue_trio.client.client import Client


def decode(raw: Raw | bytes) -> Any:
    """Return the JSON value; where the quick parser is stricter than the server, the standard one reads it."""
    try:
        return msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return json.loads(bytes(raw))


def encoded(value: Any) -> Raw | None:
    """Return the JSON of a result; None for none.

    Raises:
        TypeError: it has no JSON.
    """
    return None if value is None else Raw(msgspec.json.encode(value))


class Job:
    """A job that was pulled; ``token`` proves that it is ours, ``raw`` is its payload as it was pushed."""

    def __init__(self, client: "Client", view: DeliveredJob, token: str) -> None:
        self._client = client
        self.id = view.id
        self.queue = view.queue
        self.raw = bytes(view.data)
        self.priority = view.priority
        self.created_at = view.created_at / 1000
        self.attempts = view.attempts
        """Failed tries so far."""
        self.max_attempts = view.max_attempts
        self.token = token

    @cached_property
    def data(self) -> Any:
        """The payload."""
        return decode(self.raw)

    async def ack(self, result: Any = None) -> None:
        """Complete it; a worker does this with what its handler returns."""
        await self._client.ack(self.id, result, token=self.token)

    async def fail(self, error: str | None = None) -> None:
        """Report a failed attempt; a worker does this when its handler raises."""
        await self._client.fail(self.id, error, token=self.token)

    async def progress(self, percent: float, message: str | None = None) -> None:
        """Report how far it is."""
        await self._client.progress(self.id, percent, message, token=self.token)

    async def extend_lock(self, duration: float) -> None:
        """Let the lease end ``duration`` seconds from now."""
        await self._client.extend_lock(self.id, self.token, duration)

    def __repr__(self) -> str:
        return f"<Job {self.id} of {self.queue}>"


class JobInfo:
    """What the server knows of a job; times in seconds since the epoch."""

    def __init__(self, view: JobView) -> None:
        self.id = view.id
        self.queue = view.queue
        self.data: Any = decode(view.data)
        self.priority = view.priority
        self.created_at = view.created_at / 1000
        self.run_at = view.run_at / 1000
        self.started_at = None if view.started_at is None else view.started_at / 1000
        self.completed_at = None if view.completed_at is None else view.completed_at / 1000
        self.attempts = view.attempts
        self.max_attempts = view.max_attempts
        self.backoff = view.backoff / 1000
        self.progress = view.progress
        self.tags = view.tags

    def __repr__(self) -> str:
        return f"<JobInfo {self.id} of {self.queue}>"
