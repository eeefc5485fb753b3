"""The front door: the only one that changes the engine, and the place where requests wait.

A transport gives a command and gets a reply. Between two awaits everything here is one step, so there
is no lock. Changes are answered after their commit, and so is a look at a job that has just changed: no
answer tells what a crash could take back. A pull is answered at once, but never with a job whose own push
is not committed yet.
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
import trio
from msgspec import Struct

from bunqueue_trio import errors
from bunqueue_trio.config import ADVANCE_MAX, SERVED_MAX
from bunqueue_trio.engine.commands import run
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.errors import InvariantBroken, Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.catalog import FILLS, READS, SPECS, TAKES
from bunqueue_trio.runtime.alarm import Alarm
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.journal import Journal
from bunqueue_trio.runtime.meters import Meters

_log = structlog.get_logger()


class _Waiter:
    """A long poll in its queue's line."""

    __slots__ = ("command", "handed", "owner", "reply", "served")

    def __init__(self, command: "c.Pull | c.PullBatch", owner: str | None) -> None:
        self.command: c.Pull | c.PullBatch = command
        self.owner: str | None = owner
        self.served: trio.Event = trio.Event()
        self.reply: r.Reply | None = None
        self.handed: int = 0


class Begun(Struct):
    """A command that has been run. Its reply may be sent once batch ``epoch`` is committed; 0 means now.

    ``polls`` is a pull that found nothing and wants to wait; ``refused`` is said instead of the reply.
    """

    command: c.Command
    owner: str | None
    reply: r.Reply
    epoch: int = 0
    polls: bool = False
    at: float = 0.0
    """When, by Trio's clock; moved on by the time that a long poll had nothing to take."""
    refused: Refused | None = None
    waiter: _Waiter | None = None
    """Its place in line, once it waits there."""


class Core:
    """Runs commands for the transports and deadlines for the services."""

    def __init__(self, engine: Engine, journal: Journal, clock: Clock, *, pollers_max: int) -> None:
        self._engine = engine
        self.journal = journal
        self.clock = clock
        self._pollers_max = pollers_max
        self._lines: dict[str, OrderedDict[_Waiter, None]] = {}
        engine.watch_pulls(self._lines)
        self._declined: dict[str, None] = {}
        """Queues some of whose waiters were not served, because that would have been too much for one step."""
        self.pulls_waiting: int = 0
        """Over all queues."""
        self.stopping: bool = False
        """Set at shutdown: long polls are answered empty, and the server is not ready any more."""
        self.broken: trio.Event = trio.Event()
        """Set when an invariant is broken; :meth:`wait_broken` raises it."""
        self._broken_by: InvariantBroken | None = None
        self.scheduler: Alarm = Alarm()
        self.stall_detector: Alarm = Alarm()
        self.meters: Meters = Meters()

    async def execute(self, command: c.Command, owner: str | None = None) -> r.Reply:
        """Run ``command`` and return its reply, when what it tells is committed.

        ``owner`` is the connection that keeps what it pulls until it ends. Cancelling a pull gives
        back whatever it was about to receive; cancelling any other command does not undo it.

        Raises:
            Refused: with status and text for the client; nothing was changed.
        """
        begun = self.begin(command, owner)
        return await self.finish(begun) if begun.polls or begun.epoch else begun.reply

    def begin(self, command: c.Command, owner: str | None = None, *, size: int = 0) -> "Begun":
        """Run ``command`` without waiting for anything; the rest is :meth:`finish`.

        ``size`` is that of its request: what it makes the journal hold.

        Raises:
            Refused: as :meth:`execute`.
        """
        kind = type(command)
        if kind in READS:
            return self._look(command, owner)
        self.journal.check(size, fills=kind in FILLS)
        at = trio.current_time()
        if kind not in TAKES:
            epoch, added = self._engine.epoch, self._engine.added_bytes
            reply = self._apply(command, owner, durable=_is_durable(command))
            # No step commits, so what this one did is in the batch that gathered before it.
            assert epoch == self._engine.epoch
            gathering = self.journal.gathering
            if gathering:
                # A small request may bring large jobs: it retries dead letters, or ends a run of a series.
                self.journal.note_size(max(size, self._engine.added_bytes - added))
            begun = Begun(command, owner, reply, epoch if gathering else 0, at=at)
        else:
            if self._declined and command.queue in self._declined and command.timeout and not self.stopping:  # type: ignore[attr-defined]
                # Who waits there is served in steps, and who comes meanwhile stands behind them.
                nothing = r.EMPTY_PULL if kind is c.Pull else r.PullBatchReply(jobs=[], tokens=[])
                return Begun(command, owner, nothing, polls=True, at=at)
            self._engine.handed = 0
            reply = self._apply(command, owner)
            handed = self._engine.handed
            if not self._note_deliveries(reply) and command.timeout and not self.stopping:  # type: ignore[attr-defined]
                return Begun(command, owner, reply, polls=True, at=at)
            begun = Begun(command, owner, reply, handed if handed > self.journal.committed else 0, at=at)
        if not begun.epoch:
            self.note_answered(begun)
        return begun

    async def finish(self, begun: "Begun") -> r.Reply:
        """Wait until the reply may be sent: its batch is committed, or a waiting pull has a job or no time left.

        Raises:
            Refused: there are too many long polls, or what the command began with.
        """
        reply = begun.reply
        if begun.polls:
            reply = await self._poll(begun)
            self.note_answered(begun)
            return reply
        done = False
        try:
            await self.journal.wait_committed(begun.epoch)
            done = True
        finally:
            if not done:
                self.give_back(reply)
        self.note_answered(begun)
        if begun.refused is not None:
            raise begun.refused
        return reply

    def note_answered(self, begun: "Begun") -> None:
        """Time an answer that may be sent now; :meth:`finish` does it for who waits there."""
        histogram = self.meters.by_command.get(type(begun.command))
        if histogram is not None:
            histogram.observe((trio.current_time() - begun.at) * 1000)

    def check_room(self, kind: type[c.Command]) -> None:
        """Raise ``Refused`` (503) when a command of this kind would be refused, before it is even read."""
        self.journal.check(fills=kind in FILLS)

    def give_back(self, reply: r.Reply) -> None:
        """Return the jobs of a pull whose reply could not be delivered; else do nothing."""
        for job_id, token in _jobs(reply):
            self._step(self._engine.give_back, job_id, token)

    def stop_poll(self, begun: "Begun") -> bool:
        """Let a long poll end empty; return False when it is over, or a job was handed to it already."""
        waiter = begun.waiter
        if waiter is None:
            begun.polls = False  # it has not come to its place in line: :meth:`finish` has nothing to wait for
            return True
        if waiter not in self._lines.get(waiter.command.queue, ()):
            return False
        self._leave(waiter)
        waiter.served.set()
        return True

    def check_queue(self, name: str) -> None:
        """Raise ``Refused`` when ``name`` cannot be a queue's."""
        self._engine.queues.check(name)

    async def wait_broken(self) -> None:
        """Wait until a command has met a broken invariant, and raise it.

        A transport may turn any exception into an answer; this one must end the process all the same.

        Raises:
            InvariantBroken: the broken invariant.
        """
        await self.broken.wait()
        assert self._broken_by is not None
        raise self._broken_by

    def advance(self) -> None:
        """Do what is due by now, and go on serving those for whom the steps before had no time."""
        self._engine.woken.update(self._declined)
        self._declined.clear()
        self._step(self._engine.advance)

    def release(self, owner: str, *, dropped: bool) -> None:
        """Return the jobs of a connection that is gone; each has stalled if it just ``dropped``.

        At an orderly stop it does nothing: after the restart their workers claim them.
        """
        if not self.stopping:
            self._step(partial(self._engine.release_owner, dropped=dropped), owner)

    def stop_polls(self) -> None:
        """Answer every waiting long poll empty, and every later one at once."""
        self.stopping = True
        for line in self._lines.values():
            for waiter in line:
                waiter.served.set()
        self._lines.clear()

    # --- inside ---------------------------------------------------------------------------------

    def _look(self, command: Any, owner: str | None) -> Begun:
        """Run a command that changes nothing; it is answered when what it saw is committed."""
        begun = Begun(command, owner, r.EMPTY_PULL)
        try:
            begun.reply = self._apply(command, owner)
        except Refused as refused:
            begun.refused = refused
        settled_by = SPECS[type(command)].settled_by
        if settled_by == "job":
            begun.epoch = self.journal.epoch_of(command.id)
        elif settled_by == "everything":
            begun.epoch = self.journal.last_epoch
        if begun.epoch and self.journal.failing is not None:
            raise Refused(*errors.STORAGE_DOWN, retry_after=2)
        if begun.refused is not None and not begun.epoch:
            raise begun.refused
        return begun

    def _apply(self, command: Any, owner: str | None, *, durable: bool = False) -> r.Reply:
        engine, now = self._engine, self.clock.now()
        try:
            due = engine.next_due()
            if due is not None and due <= now:
                engine.advance(now)
                self._serve_woken(now)  # who waits was here before this command
                engine.handed = 0
            return run(engine, command, now, owner)
        except AssertionError as error:
            raise self._break(error) from error
        finally:  # a refused command may have let deadlines pass before it was refused
            self._settle(now, durable=durable)

    def _step(self, change: Callable[..., None], *args: Any) -> None:
        """Let the engine do something that is no command."""
        now = self.clock.now()
        try:
            change(*args, now)
        except AssertionError as error:
            raise self._break(error) from error
        self._settle(now)

    def _break(self, error: AssertionError) -> InvariantBroken:
        """Return what ends the process. Nothing that the engine holds is written any more: it is not to be trusted."""
        if self._broken_by is None:
            _log.critical("an invariant is broken, the server ends", exc_info=error)
            self._broken_by = InvariantBroken(str(error))
            self.journal.halt(self._broken_by)
            self.broken.set()
        return self._broken_by

    def _settle(self, now: int, *, durable: bool = False) -> None:
        """Serve the waiters, wake the flusher and set the alarms after a step of the engine."""
        engine = self._engine
        try:
            if engine.woken:
                self._serve_woken(now)
            if self.journal.gathering:
                self.journal.note(durable=durable)
            self.scheduler.set(0 if self._declined else engine.next_scheduled())
            self.stall_detector.set(engine.leases.next_due())
        except AssertionError as error:
            raise self._break(error) from error

    def _serve_woken(self, now: int) -> None:
        engine, left = self._engine, SERVED_MAX
        while engine.woken:
            queue, _ = engine.woken.popitem()
            if queue in self._lines:
                left = self._serve(queue, now, left)

    def _serve(self, queue: str, now: int, left: int) -> int:
        """Serve those who wait for a job of ``queue``, first come, first served, with up to about ``left`` jobs.

        The scheduler goes on with the others in steps of their own. Returns how many more may be given or worked off.
        """
        line, engine = self._lines[queue], self._engine
        while line and engine.offers(queue):
            if left <= 0:
                self._declined[queue] = None
                break
            if (due := engine.next_due()) is not None and due <= now:
                # What this very step has made may be over already. However much that is, it is done once.
                engine.advance(now)
                left -= ADVANCE_MAX - engine.left
            waiter = next(iter(line))
            engine.handed = 0
            reply = run(engine, waiter.command, now, waiter.owner)
            if given := self._note_deliveries(reply):  # else what was ready has expired in this very moment
                left -= given
                del line[waiter]
                waiter.reply, waiter.handed = reply, engine.handed
                waiter.served.set()
            elif engine.offers(queue):
                self._declined[queue] = None  # more jobs are over than one step works off
                break
        if not line:
            del self._lines[queue]
        return left

    def _note_deliveries(self, reply: r.Reply) -> int:
        """Count how long the jobs in the reply to a pull have waited; return how many there are."""
        delivered = _jobs(reply)
        for job_id, _ in delivered:
            job = self._engine.jobs[job_id]
            assert job.started_at is not None
            self.meters.wait.observe(job.started_at - job.run_at)
        return len(delivered)

    async def _poll(self, begun: "Begun") -> r.Reply:
        command, owner, nothing = begun.command, begun.owner, begun.reply
        assert isinstance(command, c.Pull | c.PullBatch)
        if self.stopping:
            return nothing
        if self.pulls_waiting >= self._pollers_max:
            raise Refused(*errors.OVERLOADED, retry_after=1)
        waiter = begun.waiter = _Waiter(command, owner)
        line = self._lines.setdefault(command.queue, OrderedDict())
        line[waiter] = None
        if self._engine.offers(command.queue):  # it came since `begin`
            self._engine.woken[command.queue] = None
            self.advance()
        self.pulls_waiting += 1
        parked_at = trio.current_time()
        try:
            with trio.move_on_after(command.timeout / 1000):
                await waiter.served.wait()
            begun.at += trio.current_time() - parked_at
            if waiter.reply is None:
                return nothing
            if waiter.handed > self.journal.committed:
                await self.journal.wait_committed(waiter.handed)
            reply, waiter.reply = waiter.reply, None
            return reply
        finally:
            self.pulls_waiting -= 1
            if waiter.reply is not None:  # cancelled in the instant a job was handed to it
                self.give_back(waiter.reply)
            elif waiter in self._lines.get(command.queue, ()):
                self._leave(waiter)

    def _leave(self, waiter: _Waiter) -> None:
        queue = waiter.command.queue
        line = self._lines[queue]
        del line[waiter]
        if not line:
            del self._lines[queue]


def _jobs(reply: r.Reply) -> list[tuple[str, str]]:
    """Return ids and tokens of the jobs in the reply to a pull."""
    if isinstance(reply, r.PullReply):
        return [] if reply.job is None or reply.token is None else [(reply.job.id, reply.token)]
    if isinstance(reply, r.PullBatchReply):
        return [(job.id, token) for job, token in zip(reply.jobs, reply.tokens, strict=True)]
    return []


def _is_durable(command: c.Command) -> bool:
    if isinstance(command, c.Push):
        return command.durable
    return isinstance(command, c.PushBatch) and any(job.durable for job in command.jobs)
