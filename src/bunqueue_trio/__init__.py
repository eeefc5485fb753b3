"""bunqueue-trio: a job-queue server that people trust with work they cannot lose."""

from typing import TYPE_CHECKING, Any

from bunqueue_trio.errors import BunqueueError, ConnectionLost, JobFailed, JobRemoved, Refused, ServerUnavailable

if TYPE_CHECKING:
    from bunqueue_trio.client import Again, App, Client, GiveUp, Job, JobInfo, Worker

__version__ = "0.1.0"

__all__ = [
    "Again", "App", "BunqueueError", "Client", "ConnectionLost", "GiveUp", "Job", "JobFailed", "JobInfo", "JobRemoved",
    "Refused", "ServerUnavailable", "Worker", "__version__",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import the client when it is asked for: the server does not need it, nor the client the server."""
    if name in ("Again", "App", "Client", "GiveUp", "Job", "JobInfo", "Worker"):
        from bunqueue_trio import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
