"""A command that has been run and is not answered yet: what its answer waits for."""

import math
from collections.abc import Callable, Iterable, Mapping

import trio
from msgspec import Struct

from bunqueue_trio import errors
from bunqueue_trio.config import HALF_CLOSED_S
from bunqueue_trio.engine.ends import End
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.caller import SERVER, By
from bunqueue_trio.protocol.catalog import AWAITS, READS, TAKES
from bunqueue_trio.protocol.faults import error_reply
from bunqueue_trio.runtime.half import Bulky
from bunqueue_trio.runtime.hub import Report
from bunqueue_trio.runtime.meters import Histogram
from bunqueue_trio.runtime.waiting import Waiter


class Awaited:
    """One who waits for the end of a job."""

    __slots__ = ("end", "job_id", "told")

    def __init__(self, job_id: str) -> None:
        self.job_id: str = job_id
        self.told: trio.Event = trio.Event()
        """Set when there is nothing to wait for any more."""
        self.end: End | None = None


class Begun(Struct):
    """A command that has been run. Its reply may be sent once batch ``epoch`` is committed; 0 means now.

    ``waits``: a waiting pull, or one that waits for the end of a job; ``refused`` is said instead of the reply.
    """

    command: c.Command
    owner: str | None
    reply: r.Reply
    epoch: int = 0
    waits: bool = False
    at: float = 0.0
    """When, by Trio's clock; moved on by the time that a waiting pull had nothing to take."""
    refused: Refused | None = None
    waiter: Waiter | None = None
    """Its place in line, once it waits there."""
    awaited: Awaited | None = None
    """Its place among those who wait for the end of a job."""
    is_gone: Callable[[], bool] | None = None
    """Tells whether its client has hung up: of a pull, one that says no more; of all else, one whom no answer reaches."""
    hand: Callable[[r.Reply], bool] | None = None
    """Sends the job that a pull has waited for; see :class:`Waiter`."""
    by: By = SERVER
    """Who asked for it, if it is done in slices."""
    rest: c.Command | None = None
    """What of it is still to be done, in the next slices."""
    bulk: Bulky | None = None
    """What is still to be done of a bulk command, by :meth:`Core.add_rest`; no push is committed before that."""
    done: set[str] | None = None
    """The jobs whose attempt a bulk command has ended; it grows with each part."""
    report: Report | None = None
    """What its sender need not hear of as events once it has its answer."""

    @property
    def is_pull(self) -> bool:
        """Whether it takes jobs, of which none may go to who might be gone."""
        return type(self.command) in TAKES

    @property
    def patience_s(self) -> float:
        """For how long it goes on when its client says no more: that one reads on, or has gone, and nobody can tell.

        A pull ends at once. The end of a job may be far, and a place among those who wait for it is one that others want.
        """
        if self.is_pull:
            return 0.0
        return math.inf if self.awaited is None else HALF_CLOSED_S

    @property
    def holds_up_nothing(self) -> bool:
        """Whether it waits for a job, or for the end of one: other commands of its connection are answered meanwhile."""
        return type(self.command) in TAKES | AWAITS and bool(self.command.timeout)  # type: ignore[attr-defined]

    def answer(self) -> r.Reply:
        """Return what its client hears once it is committed."""
        return self.reply if self.refused is None else error_reply(self.refused, type(self.command))

    def unsettled(self, refused: Refused) -> Refused:
        """Return what its client hears when the disk does not take what its answer waits for: who looks has changed nothing."""
        is_open = refused.code == errors.NOT_COMMITTED.code
        return errors.STORAGE_DOWN.refuse(retry_after=2) if is_open and type(self.command) in READS else refused


def note_answered(some: Iterable[Begun], by_command: Mapping[type[c.Command], Histogram], now: float) -> None:
    """Note for many at once what :meth:`Core.note_answered` notes for one."""
    for begun in some:
        histogram = by_command.get(type(begun.command))
        if histogram is not None:
            histogram.observe((now - begun.at) * 1000)
