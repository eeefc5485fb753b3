"""``client.wait``: finding out how a job ended, also when the connection was cut meanwhile.

Completed, failed, removed and "not known" are different answers.

Events only prompt another look. A job that leaves no record is an exception: its last event says how it ended, provided
no event was missed. Events arrive in order, but may arrive after the answer that the job is gone.
"""

from contextlib import suppress
from typing import Any, Protocol, TypeVar

import anyio
import trio

from bunqueue_trio.client.events import EventStream
from bunqueue_trio.errors import JOB_NOT_FOUND, BunqueueError, ConnectionLost, JobFailed, JobRemoved, Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.events import Event
from bunqueue_trio.protocol.replies import Reply, StateReply

R = TypeVar("R", bound=Reply)

EVENTS = ("completed", "failed", "removed", "retried")
# For an event that must be under way.
BEHIND_S = 10.0
# For the last look, at a time-out.
LOOK_S = 0.5


class TooSlow(trio.TooSlowError, TimeoutError):
    """A wait is over before the job: caught as either, on any loop."""


class Looks(Protocol):
    """What a wait asks of its client."""

    async def look(self, job_id: str) -> StateReply:
        """Return where a job stands."""
        ...

    async def result(self, job_id: str) -> Any:
        """Return what it has ended with."""
        ...

    async def run(self, command: c.Command[R]) -> R:
        """Return the reply to any command."""
        ...

    async def ping(self) -> None:
        """Return when the server has answered."""
        ...


class Wait:
    """One wait for ``job_id``."""

    def __init__(self, client: Looks, job_id: str, queue: str | None) -> None:
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
                if refused.code != JOB_NOT_FOUND.code:
                    raise
                return await self._without_record(stream, refused)
            self._gap = False
            if self._is_completed(state):
                return await self._result()
            self._note(await stream.next_or_gap())

    async def last_look(self, when: str) -> Any:
        """Return the result, or raise what :meth:`run` does, if the job has ended in this moment.

        Raises:
            TooSlow: it has not, with what is known: where it stands, ``when``, and why.
        """
        why = ""
        with anyio.move_on_after(LOOK_S):
            try:
                state = await self._client.look(self._job_id)
            except BunqueueError:
                # Then the answer is what was seen last.
                pass
            else:
                if self._is_completed(state):
                    return await self._result()
                # Of a server that is older, or has just lost it.
                with suppress(BunqueueError):
                    why = (await self._client.run(c.Why(id=self._job_id))).why
        seen = self._seen
        if seen is None:
            raise TooSlow(f"nothing is known of job {self._job_id} {when}: no server answers")
        stands = "completed, but its result has not come" if seen.state == "completed" else seen.state
        raise TooSlow(f"job {self._job_id} of queue {seen.queue} is {stands} {when}{why and f': {why}'}")

    def _is_completed(self, state: StateReply) -> bool:
        """Note what the server has answered, and return whether there is a result.

        Raises:
            JobFailed: there will be none.
            ValueError: it is of another queue than this client hears of.
        """
        self._seen = state
        if self._queue not in (None, state.queue):
            raise ValueError(f"job {self._job_id} is of queue {state.queue}; this client hears only of {self._queue}")
        if state.state == "failed":
            raise (JobFailed if state.cancelled is None else JobRemoved)(self._job_id, state.error or "failed")
        return state.state == "completed"

    def _note(self, event: Event | None) -> None:
        self._gap = self._gap or event is None
        # A failed try is an end unless the next try is announced with it.
        self._end = None if event is None or event.event_type == "retried" else event

    async def _result(self) -> Any:
        try:
            return await self._client.result(self._job_id)
        except Refused as refused:
            if refused.code != JOB_NOT_FOUND.code:
                raise
            # There was a record, so it was to be kept: the server has just made room for others.
            raise ConnectionLost(f"job {self._job_id} is completed, and its result is not kept any more") from None

    async def _without_record(self, stream: EventStream, refused: Refused) -> Any:
        await self._catch_up(stream)
        with anyio.move_on_after(BEHIND_S):
            while True:
                end = self._end
                if end is not None and end.event_type == "failed":
                    await self._catch_up(stream)
                if end is not None and end is self._end:
                    return self._ended(end, refused)
                if self._seen is None:
                    raise refused
                if self._end is None:
                    if self._gap:
                        break
                    self._note(await stream.next_or_gap())
        when = "ended while the connection was cut" if self._gap else f"ended, its event did not come in {BEHIND_S:g} s"
        raise ConnectionLost(f"job {self._job_id} {when}, and no record of it is kept: how is not known")

    async def _catch_up(self, stream: EventStream) -> None:
        """Read the events that are already under way.

        The server sends replies before events and some events after each reply, so two pings bring the next ones.
        """
        await self._client.ping()
        await self._client.ping()
        while (noted := stream.waiting()) is not None:
            self._note(noted.event)

    def _ended(self, end: Event, refused: Refused) -> None:
        if end.event_type == "completed":
            return
        if end.event_type == "failed":
            raise JobFailed(self._job_id, str(end.error))
        if self._seen is None:
            # It was gone when the wait began, and whether its event came after that is chance.
            raise refused
        expires = self._seen.ttl is not None
        raise JobRemoved(self._job_id, "cancelled, or its time to live was over" if expires else "cancelled")
