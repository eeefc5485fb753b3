"""How what is done in slices goes on: when the next one may be done, and of a command what it is, and the one answer to all of them."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from msgspec.structs import replace

from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r

LOOKED_MAX = 200_000
"""Jobs looked at for one call: about a second beside other work; whoever wants more asks again."""

REST, REST_MAX_S = 4, 0.25
"""The next slice of anybody waits for 4 times as long as one and its commit took, so that pushes beside them keep four fifths of their rate.

Not longer than 0.25 s: a slower commit says something of the disk, and nothing of others who wait.
"""

DOWNLOADS_WAITING_MAX = 50
"""Downloads that wait for a part, from which on no other begins: each waits for those of all others. Who does not read waits for none."""

TOLD_S = 5.0
"""After that a call is answered, however far it has come: its client waits, and asks again."""


class Slices:
    """The line of all that is done in slices: one slice at a time, with a rest behind it, however many clients want some.

    Acts and downloads stand in lines of their own, and take turns: who acts does not wait for all who read.
    """

    def __init__(self) -> None:
        self._lines = {True: trio.Lock(), False: trio.Lock()}
        self._turn = trio.Lock()
        self._rests_until = 0.0

    @asynccontextmanager
    async def next(self, *, acts: bool = True, until: float = math.inf) -> AsyncIterator[bool]:
        """Wait for a turn, first come, first served, and do a slice in it; without one where it is not there by ``until``: this yields whether it is."""
        held: list[trio.Lock] = []
        try:
            with trio.move_on_at(until) as waiting:
                for lock in (self._lines[acts], self._turn):
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
        return self._lines[False].statistics().tasks_waiting

    def rest(self, took: float) -> None:
        """Let nobody do a slice for a while after one that took that many seconds."""
        rests_until = trio.current_time() + min(REST * took, REST_MAX_S)
        self._rests_until = max(self._rests_until, rests_until)


def brings(command: c.Command) -> bool:
    """Return whether what is done in slices brings jobs, as a retry does: under overload that is refused first."""
    assert isinstance(command, c.ActOnJobs)
    return command.action == "retry"


def next_slice(command: c.Command, reply: r.Reply) -> "c.ActOnJobs | None":
    """Return the command that goes on where the slice of ``command`` that ``reply`` answers has ended; None: it is done."""
    assert isinstance(command, c.ActOnJobs)
    assert isinstance(reply, r.ActReply)
    left = command.limit - reply.count - sum(reply.refused.values())
    if reply.next is None or left <= 0:
        return None
    return replace(command, after=reply.next, limit=left)


def pause_after(command: c.Command, reply: r.Reply) -> float:
    """Return the seconds until the next slice of ``command`` may be done, by its rate."""
    assert isinstance(command, c.ActOnJobs)
    assert isinstance(reply, r.ActReply)
    return 0.0 if command.rate is None else reply.count / command.rate


def joined(one: r.Reply, other: r.Reply) -> r.ActReply:
    """Return the answer to two slices."""
    assert isinstance(one, r.ActReply)
    assert isinstance(other, r.ActReply)
    refused: dict[str, int] = dict(one.refused)
    for code, n in other.refused.items():
        refused[code] = refused.get(code, 0) + n
    return r.ActReply(
        count=one.count + other.count, ending=one.ending + other.ending, refused=refused, scanned=one.scanned + other.scanned,
        examples=(one.examples + other.examples)[:3], next=other.next,
    )  # fmt: skip
