"""How what is done in slices goes on: when the next one may be done, and of a command what it is, and the one answer to all of them."""

import math
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

import trio
from msgspec.structs import replace

from bunqueue_trio.errors import Refused, StoreError
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.catalog import FILLS
from bunqueue_trio.runtime.begun import Begun
from bunqueue_trio.runtime.journal import Journal

SLICE = 100
"""Jobs of one slice: 1 to 3 ms in which nobody else is served."""

LOOKED_MAX = 200_000
"""Jobs looked at for one call: about a second beside other work; whoever wants more asks again."""

REST, REST_MAX_S = 4, 0.25
"""The next slice of anybody waits for 4 times as long as one and its commit took, so that pushes beside them keep four fifths of their rate.

Not longer than 0.25 s: a slower commit says something of the disk, and nothing of others who wait.
"""

DOWNLOADS_WAITING_MAX = 50
"""Downloads that wait for a part, from which on no other begins: each waits for those of all others. Who does not read waits for none."""

TOLD_S = 5.0
"""After that a call is answered, however far it has come, and a search that has had no turn is refused: its client waits, and asks again."""

Kind = Literal["acts", "downloads", "searches"]


class Slices:
    """The line of all that is done in slices: one slice at a time, with a rest behind it, however many clients want some.

    Acts, downloads and searches stand in lines of their own, and take turns: who acts does not wait for all who read.
    """

    def __init__(self) -> None:
        self._lines: dict[Kind, trio.Lock] = {"acts": trio.Lock(), "downloads": trio.Lock(), "searches": trio.Lock()}
        self._turn = trio.Lock()
        self._rests_until = 0.0

    @asynccontextmanager
    async def next(self, kind: Kind, *, until: float = math.inf) -> AsyncIterator[bool]:
        """Wait for a turn, first come, first served, and do a slice in it; without one where it is not there by ``until``: this yields whether it is."""
        held: list[trio.Lock] = []
        try:
            with trio.move_on_at(until) as waiting:
                for lock in (self._lines[kind], self._turn):
                    await lock.acquire()
                    held.append(lock)
                await trio.sleep_until(self._rests_until)
            if waiting.cancelled_caught:
                yield False
                return
            began = trio.current_time()
            try:
                yield True
            finally:
                self.rest(trio.current_time() - began)
        finally:
            for lock in held:
                lock.release()

    @property
    def downloads_waiting(self) -> int:
        """How many downloads wait for a turn."""
        return self._lines["downloads"].statistics().tasks_waiting

    def rest(self, took: float) -> None:
        """Let nobody do a slice for a while after one that took that many seconds."""
        rests_until = trio.current_time() + min(REST * took, REST_MAX_S)
        self._rests_until = max(self._rests_until, rests_until)


_TESTS = frozenset(c.Filter.__struct_fields__) - {"queue", "state"}


def is_search(command: c.Command) -> bool:
    """Return whether a command that changes nothing looks at jobs one by one for those that it wants."""
    if not isinstance(command, c.FindJobs | c.Dlq):
        return False
    return any(getattr(command, name, None) is not None for name in _TESTS)


def brings(command: c.Command) -> bool:
    """Return whether a command brings jobs, as a retry does: under overload that is refused first."""
    return type(command) in FILLS or (isinstance(command, c.ActOnJobs) and command.action == "retry")


def first_slice(command: Any) -> c.Command:
    """Return the command that does the first slice of ``command``; itself, if that is all of it, or it names its job."""
    limit = _limit_of(command)
    size = min(limit, SLICE, _rate_of(command) or SLICE)
    is_one = any(getattr(command, each, None) is not None for each in ("job_id", "id"))
    return command if is_one or size == limit else _limited(command, size)


def as_of_begin(slice_: c.Command, began: int) -> c.Command:
    """Return the slice that takes what its command would have taken when it ``began``, and nothing that comes meanwhile."""
    # A retry has it in its cursor, and an obliterate is to leave nothing.
    if isinstance(slice_, c.ActOnJobs | c.Clean | c.Drain | c.PromoteJobs) and slice_.as_of is None:
        return replace(slice_, as_of=began)
    return slice_


def as_said(command: Any, slice_: Any) -> c.Command:
    """Return what is written down of a slice: what somebody said, and behind which place it went on."""
    return replace(command, after=slice_.after) if hasattr(slice_, "after") else command


def rest_of(command: Any, slice_: Any, reply: Any) -> c.Command | None:
    """Return the command that does what is left of ``command`` after a slice of it, and the answer to that; None: it is done."""
    # A search goes on until it has found as many.
    spent = reply.count + sum(reply.refused.values()) if isinstance(reply, r.ActReply) else _limit_of(slice_)
    left = _limit_of(command) - spent
    if isinstance(reply, r.DrainReply | r.PromoteReply):
        left = _limit_of(command) - reply.count
        command = replace(command, after=reply.next)
        is_done = not reply.left or (reply.next is None and not reply.count)
        return None if left <= 0 or is_done else _limited(command, left)
    if hasattr(reply, "next"):
        return None if left <= 0 or reply.next is None else replace(command, after=reply.next, limit=left)
    return None if left <= 0 or reply.done or not reply.count else _limited(command, left)


def _limit_of(command: Any) -> int:
    """Return to how many jobs a command is done at most."""
    return int(command.count if isinstance(command, c.PromoteJobs) else command.limit)


def _limited(command: Any, limit: int) -> c.Command:
    limited: c.Command = replace(command, **{"count" if isinstance(command, c.PromoteJobs) else "limit": limit})
    return limited


def joined(one: Any, other: Any) -> r.Reply:
    """Return the answer to two slices: what both have done, and where the second one has ended."""
    sums = {name: getattr(one, name) + getattr(other, name) for name in _SUMS if hasattr(other, name)}
    if isinstance(other, r.ActReply):
        sums |= {
            "refused": dict(Counter(one.refused) + Counter(other.refused)),
            "examples": (one.examples + other.examples)[:3],
        }
    return replace(other, **sums)  # type: ignore[no-any-return]


_SUMS = ("count", "ending", "scanned", "bytes", "ids")
"""What of an answer is added up."""

Do = Callable[[c.Command, c.Command], Awaitable[tuple[Any, int] | None]]
"""Does a slice, of which something is written down, and returns its answer and the batch that it waits for; None: it cannot be done now."""


async def go_on(begun: Begun, slices: Slices, journal: Journal, do: Do) -> r.Reply:
    """Do the next slices of a command, each when the one before is committed; return the one answer. It ends when its client has gone.

    Raises:
        Refused: the last one is not committed.
    """
    reply, rest, due = begun.reply, begun.rest, trio.current_time()
    until, pause = due + TOLD_S, _pause_after(begun.command, reply)
    await journal.wait_committed(begun.epoch)
    slices.rest(trio.current_time() - due)
    while rest is not None and getattr(reply, "scanned", 0) < LOOKED_MAX and not (begun.is_gone and begun.is_gone()):
        slice_ = first_slice(rest)
        await trio.sleep_until(due := due + pause)
        async with slices.next("acts", until=until) as is_in_time:
            try:
                told = await do(slice_, as_said(begun.command, slice_)) if is_in_time else None
            except (Refused, StoreError):
                # So would be what comes next, and this much is done.
                told = None
            if told is None:
                break
            answer, epoch = told
            await journal.wait_committed(epoch)
        reply, pause = joined(reply, answer), _pause_after(rest, answer)
        rest = rest_of(rest, slice_, answer)
    return reply


def _rate_of(command: c.Command) -> int | None:
    """Return how many a second it may be done to; None: as many as there is time for."""
    return command.rate if isinstance(command, c.ActOnJobs) and not command.dry_run else None


def _pause_after(command: c.Command, reply: Any) -> float:
    """Return the seconds until the next slice of ``command`` may be done, by its rate."""
    rate = _rate_of(command)
    return 0.0 if rate is None else reply.count / rate
