"""The client of a running server, and the worker on top of it. Both speak WebSocket, on Trio and on asyncio."""

from bunqueue_trio.client.app import App
from bunqueue_trio.client.client import Client, Job
from bunqueue_trio.client.endings import Again, GiveUp
from bunqueue_trio.client.events import EventStream
from bunqueue_trio.client.info import JobInfo
from bunqueue_trio.client.pushable import Pushable
from bunqueue_trio.client.worker import Worker
from bunqueue_trio.errors import BunqueueError, ConnectionLost, JobFailed, JobRemoved, Refused, ServerUnavailable
from bunqueue_trio.protocol.options import Backoff, JobSpec, PushOptions

__all__ = [
    "Again", "App", "Backoff", "BunqueueError", "Client", "ConnectionLost", "EventStream", "GiveUp", "Job", "JobFailed",
    "JobInfo", "JobRemoved", "JobSpec", "PushOptions", "Pushable", "Refused", "ServerUnavailable", "Worker",
]  # fmt: skip
