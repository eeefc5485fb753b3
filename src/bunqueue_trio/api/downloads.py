"""Answers that are made while they are sent, a line of JSON for each job or event: never all of them at once, never a long step.

What is sent is of the moment at which it is looked at. Parts are made one at a time, with a rest behind each, whoever they are for. A download that goes wrong breaks off, so that nobody takes a part for the whole.
"""

from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import trio
from msgspec import UNSET, Raw
from msgspec.structs import replace

from bunqueue_trio import errors
from bunqueue_trio.api.event_stream import parse_types
from bunqueue_trio.config import RECEIVE_BYTES, REPLAY_BYTES
from bunqueue_trio.errors import Refused, StoreError
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.codec import decode, encode
from bunqueue_trio.protocol.events import EVENT_TYPES, HEAD_BYTES, Event, without_data
from bunqueue_trio.protocol.routes import NOT_EXPORTED, query_object
from bunqueue_trio.protocol.surrogates import read
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.slices import DOWNLOADS_WAITING_MAX

JSON_LINES = "application/x-ndjson"
ROOM_WAIT_S = 30.0
"""How long a part waits for room in the byte budget."""
_ROOM_LOOK_S = 0.1
_PAGE = 100
_FIELDS_MAX = 1000
_FILTERS = frozenset(c.FindJobs.__struct_encode_fields__)
_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")
"""A payload comes as it was sent, line breaks between its tokens included."""


Hides = Callable[[Raw], Raw]
"""Returns a payload as who downloads it may see it; some ms for a large one."""


class BrokenOff(Exception):
    """A download cannot go on."""


class Download(AsyncIterator[bytes]):
    """What is sent to one client. ``aclose`` or ``end`` it, wherever it was left, and if nothing of it was sent."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._slices = server.core.slices
        self._hold = server.buffers.hold()
        """Of the part that is being sent."""
        self._first: bytes | None = None
        self._place: Any = None
        """Where the next part begins."""

    @abstractmethod
    async def part(self) -> bytes | None:
        """Return some lines, or none of them yet; None: that was all."""

    async def begun(self) -> "Download":
        """Make the first part, so that a request that is refused learns why; return this.

        Raises:
            Refused: it is not to be had, or there is no room for it.
        """
        if self._slices.downloads_waiting >= DOWNLOADS_WAITING_MAX:
            raise errors.BUFFERS_FULL.refuse(retry_after=1)
        self._server.buffers.check(REPLAY_BYTES)
        async with self._slices.next("downloads"):
            first = await self.part()
        if first and not self._hold.fit(len(first)):
            raise errors.BUFFERS_FULL.refuse(retry_after=1)
        self._first = first
        return self

    async def __anext__(self) -> bytes:
        part, self._first = self._first, None
        if part:
            return part
        # Whoever asks for more has sent what it got.
        self._hold.release()
        size = REPLAY_BYTES
        while True:
            # Before it is made: that is what costs.
            await self._wait_room(size)
            place = self._place
            try:
                async with self._slices.next("downloads"):
                    part = await self.part()
            except (Refused, StoreError) as error:
                raise BrokenOff(str(error)) from None
            if part is None:
                raise StopAsyncIteration
            if part and self._hold.fit(len(part)):
                return part
            if part:
                # It is made anew when there is room: who waits holds nothing.
                self._place, size, part = place, len(part), None
                self._hold.release()
            await trio.lowlevel.checkpoint()

    async def _wait_room(self, size: int) -> None:
        """Wait until others have been sent what they hold; who does not read theirs is cut off meanwhile."""
        deadline = trio.current_time() + ROOM_WAIT_S
        while not self._hold.fit(size):
            if trio.current_time() >= deadline:
                raise BrokenOff("there is no room for it")
            await trio.sleep(_ROOM_LOOK_S)

    def end(self) -> None:
        """Hold nothing any more, however often it is called."""
        self._hold.release()

    sent = end
    """All of it is sent, and so it is over."""

    async def aclose(self) -> None:
        """Hold nothing any more."""
        self.end()
        await trio.lowlevel.checkpoint()


class JobList(Download):
    """The jobs that a filter describes."""

    def __init__(self, server: Server, wanted: c.FindJobs, hides: Hides | None = None) -> None:
        super().__init__(server)
        self._hides = hides
        self._place: c.FindJobs | None = replace(wanted, limit=_PAGE)

    async def part(self) -> bytes | None:
        """Return the next of them."""
        if self._place is None:
            return None
        found: Any = await self._server.core.look_up(self._place)
        self._place = None if found.next is None else replace(self._place, after=found.next)
        lines: list[bytes] = []
        for job in found.jobs:
            # To read, to hide and to write a large one are steps of their own.
            await _pause_for(len(bytes(job.data)))
            if self._hides is not None:
                job.data = self._hides(job.data)
                await trio.lowlevel.checkpoint()
            _add_line(lines, encode(job))
        return b"".join(lines)


class Wanted(NamedTuple):
    """Which events: since a moment, until before another, and of what."""

    since: int
    until: int
    queue: str | None = None
    types: frozenset[str] = EVENT_TYPES
    job: str | None = None


class EventLog(Download):
    """The events of some time that are kept, oldest first."""

    def __init__(self, server: Server, wanted: Wanted, hides: Hides | None = None) -> None:
        super().__init__(server)
        self._wanted = wanted
        self._hides = hides
        self._place: int | None = None
        self._end = 0

    async def part(self) -> bytes | None:
        """Return the next of them."""
        hub, wanted, place = self._server.hub, self._wanted, self._place
        if place is None:
            place = max(await hub.first_kept_id() - 1, await hub.place_of(wanted.since))
            self._end = await hub.end_of(wanted.until)
        if place >= self._end:
            return None
        kept, reached = await hub.replay(
            after=place,
            until=self._end,
            queue=wanted.queue,
            types=wanted.types,
            since=wanted.since,
            before=wanted.until,
        )
        if await hub.first_kept_id() - 1 > place:
            if self._place is not None:
                raise BrokenOff("events that were still to be sent are not kept any more")
            # Nothing was sent: it begins with what is kept now.
            return b""
        self._place = reached
        lines: list[bytes] = []
        for each in kept:
            if is_of(each.body, wanted.job):
                await _pause_for(len(each.body))
                _add_line(lines, await self._shown(each.body))
        return b"".join(lines)

    async def _shown(self, body: bytes) -> bytes:
        if self._hides is None or body.find(b'"data":', 0, HEAD_BYTES) < 0:
            return body
        event = read(body, Event)
        if event.data is not UNSET:
            body = encode(replace(event, data=self._hides(event.data)))
        await trio.lowlevel.checkpoint()
        return body


def event_log(server: Server, query: str) -> Download:
    """Return the events that a query asks for: ``from``, ``to``, ``queue``, ``types`` and ``jobId``.

    Raises:
        Refused: a part of it is no value, or there is no such part.
    """
    said = _said(query)
    for name in said.keys() - {"from", "to", "queue", "types", "jobId"}:
        raise errors.UNKNOWN_FIELD.refuse(name[:100])
    since, until = (_moment(name, said) for name in ("from", "to"))
    queue, job = (said[name][-1] if name in said else None for name in ("queue", "jobId"))
    if queue is not None:
        server.core.check_queue(queue)
    until = server.clock.now() + 1 if until is None else until
    return EventLog(server, Wanted(since or 0, until, queue, parse_types(query), job))


def job_list(server: Server, query: str) -> Download:
    """Return the jobs that a query asks for, by any fields of the filter.

    Raises:
        Refused: a part of it is no value.
    """
    said = _said(query)
    for name in NOT_EXPORTED:
        if name in said:
            raise errors.INVALID_FIELD.refuse(name, "is not for a download, which is all of them")
    for name in said.keys() - _FILTERS:
        # A slip would bring all jobs.
        raise errors.UNKNOWN_FIELD.refuse(name[:100])
    return JobList(server, decode(c.FindJobs, query_object(query, c.FindJobs) if query else b"{}"))


DOWNLOADS: Mapping[str, Callable[[Server, str], Download]] = {"event-log": event_log, "export": job_list}
"""Name in ``ROUTES`` → what makes the download of a query."""


def is_of(body: bytes, job: str | None) -> bool:
    """Return whether an event is of this job, or of any where none is said."""
    if job is None:
        return True
    # Most are of others, and need not be read.
    return body.find(encode(job), 0, HEAD_BYTES) >= 0 and read(without_data(body), Event).job_id == job


def _said(query: str) -> dict[str, list[str]]:
    try:
        return parse_qs(query, keep_blank_values=True, max_num_fields=_FIELDS_MAX)
    except ValueError:
        raise errors.INVALID_FIELD.refuse("query", f"must have at most {_FIELDS_MAX} fields") from None


def _moment(name: str, said: Mapping[str, list[str]]) -> int | None:
    if name not in said:
        return None
    text = said[name][-1]
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise errors.INVALID_FIELD.refuse(name, "must be epoch ms")
    return int(text)


async def _pause_for(size: int) -> None:
    """Let others run before something of ``size`` is made, if it is large."""
    if size > RECEIVE_BYTES:
        await trio.lowlevel.checkpoint()


def _add_line(lines: list[bytes], body: bytes) -> None:
    if b"\n" in body or b"\r" in body:
        body = body.translate(_ONE_LINE)
    lines += (body, b"\n")
