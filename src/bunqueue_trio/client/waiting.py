"""Waiting for the end of a job, over any gap: completed, failed, removed, and "not known" are different answers.

Events are a hint to look again. Only of a job that leaves no record does the event itself tell how it ended, and
only while none was missed: an event may come behind the answer that the job is gone, never out of its own order.
"""

from typing import TYPE_CHECKING, Any

import trio

from bunqueue_trio.client.events import EventStream
from bunqueue_trio.errors import BunqueueError, ConnectionLost, JobFailed, JobRemoved, Refused
from bunqueue_trio.protocol.events import Event
from bunqueue_trio.protocol.replies import StateReply

if TYPE_CHECKING:
    from bunqueue_trio.client.client import Client

EVENTS = ("completed", "failed", "removed", "retried")
BEHIND_S = 10.0  # for an event that must be under way
LOOK_S = 0.5  # for the state that a time-out tells


class Wait:
    """One wait for ``job_id``."""

    def __init__(self, client: "Client", job_id: str, queue: str | None) -> None:
        self._client = client
        self._job_id = job_id
        self._queue = queue
        self._seen: StateReply | None = None
        self._end: Event | None = None
        self._gap = False

    async def run(self, stream: EventStream) -> Any:
        """Return the result, or raise what :meth:`Client.wait` does. ``stream`` has begun before."""
        while True:
            try:
                state = await self._client.look(self._job_id)
            except Refused as refused:
                if refused.status != 404:
                    raise
                return await self._without_record(stream, refused)
            self._seen, self._gap = state, False
            if self._queue not in (None, state.queue):
                raise ValueError(
                    f"job {self._job_id} is of queue {state.queue}; this client hears only of {self._queue}"
                )
            if state.state == "completed":
                return await self._result()
            if state.state == "failed":
                raise JobFailed(self._job_id, state.error or "failed")
            self._note(await stream.next_or_gap())

    async def too_slow(self, timeout_s: float) -> trio.TooSlowError:
        """Return the error for a wait that was too long, with what is known."""
        with trio.move_on_after(LOOK_S):
            try:
                self._seen = await self._client.look(self._job_id)
            except BunqueueError:
                pass  # then what was seen last is told
        seen = self._seen
        if seen is None:
            return trio.TooSlowError(f"nothing is known of job {self._job_id} after {timeout_s:g} s: no server answers")
        return trio.TooSlowError(f"job {self._job_id} of queue {seen.queue} is {seen.state} after {timeout_s:g} s")

    def _note(self, event: Event | None) -> None:
        self._gap = self._gap or event is None
        # A failed try is an end unless the next try is announced with it.
        self._end = None if event is None or event.event_type == "retried" else event

    async def _result(self) -> Any:
        try:
            return await self._client.result(self._job_id)
        except Refused as refused:
            if refused.status != 404:
                raise
            return None  # its record has just been removed

    async def _without_record(self, stream: EventStream, refused: Refused) -> Any:
        await self._catch_up(stream)
        with trio.move_on_after(BEHIND_S):
            while True:
                end = self._end
                if end is not None and end.event_type == "failed":
                    await self._catch_up(stream)
                if end is not None and end is self._end:
                    return self._ended(end)
                if self._seen is None:
                    raise refused
                if self._end is None:
                    if self._gap:
                        break
                    self._note(await stream.next_or_gap())
        raise ConnectionLost(
            f"job {self._job_id} ended while the connection was cut, and no record of it is kept: how is not known"
        )

    async def _catch_up(self, stream: EventStream) -> None:
        """Take in what follows at once on what was heard.

        A server sends answers first, and then a part of the events: with the second answer, the next part is here.
        """
        await self._client.ping()
        await self._client.ping()
        while (noted := stream.waiting()) is not None:
            self._note(noted.event)

    def _ended(self, end: Event) -> None:
        if end.event_type == "completed":
            return
        if end.event_type == "failed":
            raise JobFailed(self._job_id, str(end.error))
        expires = self._seen is None or self._seen.ttl is not None
        raise JobRemoved(self._job_id, "cancelled, or its time to live was over" if expires else "cancelled")
