"""The pulls that wait for a job: who stands in which queue's line, who is put aside, and who is served next.

Only :class:`~bunqueue_trio.runtime.core.Core` uses it, within its steps. Nothing here waits, and nothing commits:
how long a pull waits, and when its answer may be sent, is the core's.
"""

from collections import OrderedDict
from collections.abc import Callable
from itertools import takewhile

import trio

from bunqueue_trio.config import ADVANCE_MAX, HANDED_MAX, SERVED_MAX
from bunqueue_trio.engine.commands import run
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.runtime.meters import Histogram
from bunqueue_trio.storage.store import Batch


class Waiter:
    """A waiting pull in its queue's line."""

    __slots__ = ("asked_at", "command", "hand", "handed", "is_gone", "line", "owner", "reply", "served", "worker")

    def __init__(self, command: "c.Pull | c.PullBatch", owner: str | None, asked_at: float = 0.0) -> None:
        self.command: c.Pull | c.PullBatch = command
        self.owner: str | None = owner
        self.asked_at: float = asked_at
        """When it came, on Trio's clock: in the next round of tasks a later one may be the first to stand in line."""
        self.is_gone: Callable[[], bool] | None = None
        """Tells whether its client has hung up, which its connection may not have noticed yet."""
        self.hand: Callable[[r.Reply], bool] | None = None
        """Sends the reply to its client at once; returns False, having done nothing, where that takes more than a step."""
        self.worker: str | None = None
        """Who asks, if that is known."""
        self.line: Line = OrderedDict()
        """The line that it stands in: its queue's, or the one aside while its worker gets no jobs."""
        self.served: trio.Event = trio.Event()
        self.reply: r.Reply | None = None
        """The job that it was given, until that is on its way to the client."""
        self.handed: int = 0
        """The batch that the reply waits for."""


Line = OrderedDict[Waiter, None]


class WaitingPulls:
    """The lines of waiting pulls. ``waits`` counts how long the jobs that are delivered have waited."""

    def __init__(self, engine: Engine, waits: Histogram) -> None:
        self._engine = engine
        self._waits = waits
        self.lines: dict[str, Line] = {}
        """By queue; none is empty between two steps."""
        self.aside: dict[str, Line] = {}
        """The waiters of quiet workers, by worker."""
        self.declined: dict[str, None] = {}
        """Queues with waiters that were left for the next step, because serving all was too much for one."""
        self._to_hand: list[Waiter] = []
        """Waiters that were served since the last commit, and can get their job in the step of the next one."""
        engine.watch_pulls(self.lines)

    def join(self, waiter: Waiter) -> bool:
        """Give ``waiter`` its place; return whether its line is to be served: a job came since it asked."""
        engine, queue = self._engine, waiter.command.queue
        waiter.worker = engine.workers.id_of(waiter.owner, waiter.command.owner)
        if engine.workers.is_quiet(waiter.worker):
            self._put_aside(waiter)
            return False
        self._stand_in_line(waiter)
        for later in self._later_than(waiter):
            waiter.line.move_to_end(later)
        if not engine.offers(queue):
            return False
        engine.woken[queue] = None
        return True

    def leave(self, waiter: Waiter) -> None:
        """Take ``waiter`` from where it stands."""
        del waiter.line[waiter]
        if not waiter.line:
            queue = waiter.command.queue
            if self.lines.get(queue) is waiter.line:
                del self.lines[queue]
            elif waiter.worker is not None:
                self.aside.pop(waiter.worker, None)

    def end_all(self) -> None:
        """Let everybody who waits go without a job."""
        for lines in (self.lines, self.aside):
            for line in lines.values():
                for waiter in line:
                    waiter.served.set()
                line.clear()
            lines.clear()

    def turn(self) -> None:
        """Take the waiting pulls of workers that were quieted out of their lines, and let those of others stand there again."""
        engine, turned = self._engine, self._engine.workers.turned
        quieted = {worker for worker in turned if engine.workers.is_quiet(worker)}
        if quieted:
            for waiter in [waiter for line in self.lines.values() for waiter in line if waiter.worker in quieted]:
                self.leave(waiter)
                self._put_aside(waiter)
        for worker in turned:
            for waiter in () if worker in quieted else self.aside.pop(worker, ()):
                self._stand_in_line(waiter)
                engine.woken[waiter.command.queue] = None
        turned.clear()

    def wake_declined(self) -> None:
        """Let the next step serve the waiters that earlier steps had no time for."""
        self._engine.woken.update(self.declined)
        self.declined.clear()

    def serve_woken(self, now: int) -> None:
        """Serve the waiters of the queues that the engine has woken."""
        engine, left = self._engine, SERVED_MAX
        while engine.woken:
            queue, _ = engine.woken.popitem()
            if queue in self.lines:
                left = self._serve(queue, now, left)

    def hand_over(self, batch: Batch, _: float) -> None:
        """Hand their jobs to some of those who were served, in the step of the commit (one of ``Journal.on_commit``).

        To the others it is done by their tasks, which all wake only when the loop has looked at the kernel again.
        """
        to_hand, self._to_hand = self._to_hand, []
        for waiter in to_hand:
            assert waiter.hand is not None
            if waiter.reply is not None and waiter.handed <= batch.epoch and waiter.hand(waiter.reply):
                waiter.reply = None

    def note_deliveries(self, reply: r.Reply) -> int:
        """Count how long the jobs in the reply to a pull have waited; return how many there are."""
        delivered = jobs_of(reply)
        for job_id, _ in delivered:
            job = self._engine.jobs[job_id]
            assert job.started_at is not None
            self._waits.observe(job.started_at - job.run_at)
        return len(delivered)

    def _serve(self, queue: str, now: int, left: int) -> int:
        """Serve those who wait for a job of ``queue``, first come, first served, with up to about ``left`` jobs.

        The scheduler goes on with the others in steps of their own. Returns how many more may be given or worked off.
        """
        line, engine = self.lines[queue], self._engine
        while line and engine.offers(queue):
            if left <= 0:
                self.declined[queue] = None
                break
            if not engine.is_full and engine.is_due(now):
                # Jobs of this very step may have expired already; their deadlines are worked off once, however many they are.
                engine.advance(now)
                left -= ADVANCE_MAX - engine.left
            waiter = next(iter(line))
            if waiter.is_gone is not None and waiter.is_gone():
                del line[waiter]
                waiter.served.set()
                left -= 1
                continue
            engine.handed = 0
            reply = run(engine, waiter.command, now, waiter.owner)
            # Otherwise the ready jobs have expired in this very moment.
            if given := self.note_deliveries(reply):
                left -= given
                del line[waiter]
                waiter.reply, waiter.handed = reply, engine.handed
                waiter.served.set()
                if waiter.hand is not None and len(self._to_hand) < HANDED_MAX:
                    self._to_hand.append(waiter)
            elif engine.workers.is_quiet(worker := engine.workers.id_of(waiter.owner, waiter.command.owner)):
                # It has said since who it is.
                del line[waiter]
                waiter.worker = worker
                self._put_aside(waiter)
            elif engine.offers(queue):
                # More jobs are over than one step works off.
                self.declined[queue] = None
                break
        if not line:
            del self.lines[queue]
        return left

    def _stand_in_line(self, waiter: Waiter) -> None:
        waiter.line = self.lines.setdefault(waiter.command.queue, OrderedDict())
        waiter.line[waiter] = None

    def _later_than(self, waiter: Waiter) -> list[Waiter]:
        """Return those before ``waiter``, the last in its line, that came later, in their order."""
        others = reversed(waiter.line)
        next(others)
        return [*takewhile(lambda other: other.asked_at > waiter.asked_at, others)][::-1]

    def _put_aside(self, waiter: Waiter) -> None:
        assert waiter.worker is not None
        if (worker := self._engine.workers.get(waiter.worker)) is not None:
            worker.asked = waiter.command.queue
        waiter.line = self.aside.setdefault(waiter.worker, OrderedDict())
        waiter.line[waiter] = None


def jobs_of(reply: r.Reply) -> list[tuple[str, str]]:
    """Return ids and tokens of the jobs in the reply to a pull."""
    if isinstance(reply, r.PullReply):
        return [] if reply.job is None or reply.token is None else [(reply.job.id, reply.token)]
    if isinstance(reply, r.PullBatchReply):
        return [(job.id, token) for job, token in zip(reply.jobs, reply.tokens, strict=True)]
    return []
