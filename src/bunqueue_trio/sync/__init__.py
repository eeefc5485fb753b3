"""A client without a loop, over HTTP: for scripts, and for producers in code that is not async."""

from bunqueue_trio.errors import ConnectionLost, JobFailed, JobRemoved, Refused, ServerUnavailable
from bunqueue_trio.sync.client import SyncClient
from bunqueue_trio.sync.events import SyncEventStream
from bunqueue_trio.sync.jobs import SyncJob

__all__ = [
    "ConnectionLost", "JobFailed", "JobRemoved", "Refused", "ServerUnavailable", "SyncClient", "SyncEventStream", "SyncJob",
]  # fmt: skip
