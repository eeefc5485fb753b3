"""A job that the synchronous client has pulled: what is known of it, and how its work is reported."""

from typing import Any, Literal, Protocol, TypeVar

from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.options import said
from bunqueue_trio.protocol.replies import Reply, fence
from bunqueue_trio.protocol.times import Time

R = TypeVar("R", bound=Reply)


class _Reports(Protocol):
    """What a job asks of the client that has pulled it; :class:`SyncClient` says what each of it does."""

    def ack(self, job_id: str, result: Any = None, *, token: str | None = None) -> None: ...

    def fail(
        self, job_id: str, error: str | None = None, *, token: str | None = None, unrecoverable: bool = False,
        retry_in: Time | None = None, stack: str | None = None,
    ) -> None: ...  # fmt: skip

    def release(self, job_id: str, *, token: str | None = None) -> None: ...

    def heartbeat(self, job_id: str, *, token: str | None = None, duration: Time | None = None) -> bool: ...

    def extend_lock(self, job_id: str, token: str, duration: Time) -> None: ...

    def progress(
        self, job_id: str, percent: float, message: str | None = None, *, token: str | None = None
    ) -> None: ...

    def run(self, command: c.Command[R]) -> R: ...


class SyncJob:
    """A job that was pulled; ``token`` proves that it is ours."""

    def __init__(self, client: _Reports, fields: dict[str, Any], token: str) -> None:
        self._client = client
        self.id: str = fields["id"]
        self.queue: str = fields["queue"]
        self.name: str | None = fields.get("name")
        self.data: Any = fields["data"]
        self.priority: int = fields["priority"]
        self.created_at: float = fields["createdAt"] / 1000
        self.attempts: int = fields["attempts"]
        self.max_attempts: int = fields["maxAttempts"]
        self.token = token

    @property
    def attempt(self) -> int:
        """Which try this is, from 1."""
        return self.attempts + 1

    @property
    def fence(self) -> int:
        """The fencing number: greater for each later delivery of the job; fits 63 bits."""
        return fence(self.token)

    def ack(self, result: Any = None) -> None:
        """Complete it."""
        self._client.ack(self.id, result, token=self.token)

    def fail(
        self, error: str | None = None, *, unrecoverable: bool = False, retry_in: Time | None = None,
        stack: str | None = None,
    ) -> None:  # fmt: skip
        """Report a failed attempt, as :meth:`SyncClient.fail` does."""
        self._client.fail(self.id, error, token=self.token, unrecoverable=unrecoverable, retry_in=retry_in, stack=stack)

    def release(self) -> None:
        """Return it to its previous position, as if it had not been pulled."""
        self._client.release(self.id, token=self.token)

    def heartbeat(self, duration: Time | None = None) -> bool:
        """Renew the lease; return whether to go on, as :meth:`SyncClient.heartbeat`. Refused when it is lost."""
        return self._client.heartbeat(self.id, token=self.token, duration=duration)

    def extend_lock(self, duration: Time) -> None:
        """Let the lease end ``duration`` seconds from now."""
        self._client.extend_lock(self.id, self.token, duration)

    def progress(self, percent: float, message: str | None = None) -> None:
        """Report how far it is; this renews the lease too."""
        self._client.progress(self.id, percent, message, token=self.token)

    def log(self, message: str, level: Literal["info", "warn", "error"] = "info") -> None:
        """Add a line to the log that the server keeps with the job."""
        self._client.run(c.AddLog(id=self.id, message=said(message) or "", level=level))

    def __repr__(self) -> str:
        return f"<SyncJob {self.id} of {self.queue}>"
