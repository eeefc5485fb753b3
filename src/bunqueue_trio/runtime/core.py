"""The front door: the only one that changes the engine, and the place where requests wait.

A transport gives a command and gets a reply. Between two awaits everything here is one step, so there is no lock. Changes are answered after their
commit, and so is a look at a job that has just changed: no answer tells what a crash could take back, but for lists while the disk takes no commit. A
pull is answered at once, but never with a job whose own push is not committed yet; where another server may take the store over, after the commit of
its delivery.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, TypeVar

import trio

from bunqueue_trio import errors
from bunqueue_trio.config import BULK_SLICE
from bunqueue_trio.engine.commands import run
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.caller import SERVER, By
from bunqueue_trio.protocol.catalog import AWAITS, FILLS, LISTS, READS, REVIVES, SLICED, SPECS, TAKES
from bunqueue_trio.runtime.alarm import Alarm
from bunqueue_trio.runtime.allowed import run_allowed
from bunqueue_trio.runtime.begun import Begun
from bunqueue_trio.runtime.broken import Broken
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.ends import Ends
from bunqueue_trio.runtime.half import BULKS, added_by, begin_bulk, done_by, is_durable, work_of
from bunqueue_trio.runtime.journal import Journal
from bunqueue_trio.runtime.meters import Meters
from bunqueue_trio.runtime.notices import tell
from bunqueue_trio.runtime.slices import TOLD_S, Slices, as_of_begin, brings, first_slice, go_on, is_search, rest_of
from bunqueue_trio.runtime.turn import Turns
from bunqueue_trio.runtime.waiting import Waiter, WaitingPulls, jobs_of

T = TypeVar("T")


class Core:
    """Runs commands for the transports and deadlines for the services."""

    def __init__(self, engine: Engine, journal: Journal, clock: Clock, *, pollers_max: int) -> None:
        self._engine = engine
        self.journal = journal
        self.clock = clock
        self._pollers_max = pollers_max
        self.pulls_waiting: int = 0
        self.stopping: bool = False
        """Set at shutdown: waiting pulls are answered empty, and the server is not ready any more."""
        self.broken: Broken = Broken(engine, journal)
        self.scheduler: Alarm = Alarm()
        self.stall_detector: Alarm = Alarm()
        self.slices: Slices = Slices()
        self.rerunner: Alarm = Alarm()
        self.auto_retrier: Alarm = Alarm()
        self.meters: Meters = Meters()
        self.ends: Ends = Ends(engine)
        self.waiting: WaitingPulls = WaitingPulls(engine, self.meters.wait)
        self.turns: Turns = Turns(journal, self._set_alarms)

    @property
    def is_sure(self) -> bool:
        """Whether what is in memory is the truth, and no other server can know better."""
        return True

    async def execute(self, command: c.Command, owner: str | None = None, *, by: By = SERVER) -> r.Reply:
        """Run ``command`` and return its reply, when what it tells is committed.

        ``owner`` is the connection that keeps what it pulls until it ends. Cancelling a pull gives
        back whatever it was about to receive; cancelling any other command does not undo it. ``by`` is who did it.

        Raises:
            Refused: with status and text for the client; nothing was changed.
        """
        with self.turns.alone(type(command)):
            begun = self.begin(command, owner, by=by, sliced=True)
        return await self.finish(begun) if begun.waits or begun.epoch else begun.reply

    def begin(
        self, command: c.Command, owner: str | None = None, *, size: int = 0, by: By = SERVER, sliced: bool = False, is_checked: bool = False,
    ) -> "Begun":  # fmt: skip
        """Run ``command`` without waiting for anything; the rest is :meth:`finish`.

        ``size``: of its request, which the journal is to hold. ``by``: who did it, if it is an act. ``is_checked``: in this step the journal has said that
        there is room. With ``sliced`` a bulk command may be left half done; :meth:`finish` or :meth:`add_rest` is to follow then, without waiting.

        Raises:
            Refused: as :meth:`execute`.
        """
        kind = type(command)
        if kind in READS:
            # A search is done when it has its turn.
            waiting = is_search(command) and Begun(command, owner, r.EMPTY_PULL, waits=True, at=self.clock.time())
            return waiting or self._look(command, owner)
        if not is_checked:
            self.journal.check(size, fills=kind in FILLS or (kind in SLICED and brings(command)))
        at = self.clock.time()
        if kind not in TAKES:
            if sliced and kind in BULKS and work_of(command) > BULK_SLICE and self.journal.half.admits(command):
                return self._begin_bulk(command, owner, size, at)
            epoch, added, now = self._engine.epoch, self._engine.added_bytes, self.clock.epoch_ms(at)
            slice_ = first_slice(command) if kind in SLICED else command
            do = run_allowed if kind in REVIVES else run
            durable = kind in FILLS and is_durable(command)
            reply = self._apply(now, do, self._engine, slice_, now, owner, by, command, durable=durable)
            assert epoch == self._engine.epoch, (
                "no step commits: what this one did is in the batch that gathered before"
            )
            if gathering := self.journal.gathering:
                # A small request may bring large jobs: it retries dead letters, or ends a run of a series.
                self.journal.note_size(max(size, self._engine.added_bytes - added))
            begun = Begun(command, owner, reply, epoch if gathering else 0, at=at)
            if kind in SLICED:
                begun.by, begun.rest = by, rest_of(command, slice_, reply)
                begun.waits = begun.rest is not None
        else:
            declined = self.waiting.declined
            if declined and command.queue in declined and command.timeout and not self.stopping:  # type: ignore[attr-defined]
                # Those who wait are served in steps; a pull that comes meanwhile stands behind them.
                nothing = r.EMPTY_PULL if kind is c.Pull else r.PullBatchReply(jobs=[], tokens=[])
                return Begun(command, owner, nothing, waits=True, at=at)
            self._engine.handed, now = 0, self.clock.epoch_ms(at)
            reply = self._apply(now, run, self._engine, command, now, owner, by, is_awaited=False)
            handed = self._engine.handed
            if not self.waiting.note_deliveries(reply) and command.timeout and not self.stopping:  # type: ignore[attr-defined]
                return Begun(command, owner, reply, waits=True, at=at)
            begun = Begun(command, owner, reply, handed if handed > self.journal.committed else 0, at=at)
        if not begun.epoch:
            self.note_answered(begun)
        return begun

    async def peek(self, command: c.Command, known: list[Any] | None = None) -> r.Reply:
        """Return what a command that changes nothing finds now, committed or not, as far as it is not ``known`` (:meth:`remembering`); also while the disk is down.

        Raises:
            Refused: as :meth:`execute`.
            StoreError: what is on the disk only cannot be read.
        """
        assert type(command) in READS, command
        return await self.knowing(partial(self._run_now, command), known)

    async def finish(self, begun: "Begun") -> r.Reply:
        """Wait until the reply may be sent: its batch is committed, or a waiting pull has a job or no time left.

        Raises:
            Refused: there are too many waiting pulls, or what the command began with.
        """
        if begun.bulk is not None:
            await self.add_rest(begun)
        reply = begun.reply
        if begun.waits:
            if begun.awaited is not None:
                reply = await self.ends.wait(begun, self.journal)
            elif type(begun.command) in TAKES:
                reply = await self._poll(begun)
            else:
                reply = await (self._search(begun) if begun.rest is None else self._go_on(begun))
            self.note_answered(begun)
            return reply
        done = type(begun.command) in LISTS
        try:
            await self.journal.wait_committed(begun.epoch)
            done = True
        except Refused as refused:
            if not done:
                raise begun.unsettled(refused) from None
        finally:
            if not done:
                self.give_back(reply)
        self.note_answered(begun)
        if begun.refused is not None:
            raise begun.refused
        return reply

    async def add_rest(self, begun: "Begun") -> None:
        """Do the rest of a bulk command, some jobs in each step. It comes to its end even when its client has gone."""
        with trio.CancelScope(shield=True):
            while begun.bulk is not None:
                await self.journal.half.next_part(begun.command)
                if not isinstance(begun.command, c.PushBatch):
                    await self.journal.wait_room()
                self._add_some(begun)

    def finish_nowait(self, begun: "Begun") -> r.Reply:
        """Do as :meth:`finish` does when the batch is committed, or given up; whoever waits for a job or an end has to wait there.

        Raises:
            Refused: as :meth:`finish`.
        """
        try:
            self.journal.check_committed(begun.epoch)
        except Refused as refused:
            if type(begun.command) not in LISTS:
                self.give_back(begun.reply)
                raise begun.unsettled(refused) from None
        self.note_answered(begun)
        if begun.refused is not None:
            raise begun.refused
        return begun.reply

    def note_answered(self, begun: "Begun", at: float | None = None) -> None:
        """Note how long an answer took that may be sent now, or was sent ``at``; :meth:`finish` does so for those that wait there."""
        histogram = self.meters.by_command.get(type(begun.command))
        if histogram is not None:
            histogram.observe(((self.clock.time() if at is None else at) - begun.at) * 1000)

    def check_room(self, kind: type[c.Command]) -> None:
        """Raise ``Refused`` (503) when a command of this kind would be refused for overload: its body need not be read then."""
        self.journal.check(fills=kind in FILLS)

    def give_back(self, reply: r.Reply) -> None:
        """Return the jobs of a pull whose reply could not be delivered; else do nothing."""
        for job_id, token in jobs_of(reply):
            self.step(self._engine.give_back, job_id, token)

    def stop_poll(self, begun: "Begun") -> bool:
        """Let a waiting pull end empty; return False when it is over, or a job was handed to it already."""
        waiter, awaited = begun.waiter, begun.awaited
        if awaited is not None:
            return self.ends.stop(awaited, self.journal)
        if waiter is None and type(begun.command) in TAKES:
            begun.waits = False
            return True
        if waiter is None or waiter not in waiter.line:
            return False
        self.waiting.leave(waiter)
        waiter.served.set()
        return True

    def check_queue(self, name: str) -> None:
        """Raise ``Refused`` when ``name`` cannot be a queue's."""
        self._engine.queues.check(name)

    def advance(self) -> None:
        """Do what is due by now, however full the batch is, and go on serving those that earlier steps had no time for."""
        self.waiting.wake_declined()
        self.step(partial(self._engine.advance, waited=True))

    def forget_silent_workers(self) -> None:
        """Forget workers that were not heard of for long."""
        self.step(self._engine.forget_silent)

    def step(self, change: Callable[..., None], *args: Any) -> None:
        """Let the engine do something that is no command."""
        now = self.clock.now()
        try:
            change(*args, now)
        except Exception as error:
            self.broken.judge(error, None)
            raise
        finally:
            self._settle(now)

    async def step_knowing(self, change: Callable[..., None], *args: Any) -> None:
        """Do the same with a change that asks the archive, before it changes anything; raises what :meth:`knowing` does."""
        await self.knowing(partial(self.step, change, *args))

    async def knowing(self, do: Callable[[], T], known: list[Any] | None = None) -> T:
        """Do a step that asks the archive, and return what it does; raises StoreError where that cannot be read."""
        return do()

    def remembering(self) -> AbstractContextManager[list[Any]]:
        """Give a place for what several steps ask of an archive that is a network away: each question once."""
        return nullcontext([])

    async def look_up(self, command: c.Command, owner: str | None = None) -> r.Reply:
        """Return what a command that changes nothing finds, as :meth:`execute` does; a search without a turn of its own."""
        return await self.finish(await self.knowing(partial(self._look, command, owner)))

    def note_address(self, owner: str, address: str) -> None:
        """Note from where a connection is, until it is released."""
        self._engine.workers.addresses[owner] = address

    def release(self, owner: str, *, dropped: bool) -> None:
        """Return the jobs of a connection that is gone to their queues; each has stalled if the connection ``dropped``. After an orderly stop they stay with their workers, which claim them."""
        if not self.stopping:
            self.step(partial(self._engine.release_owner, dropped=dropped), owner)

    def stop_polls(self) -> None:
        """Answer every waiting pull empty, and every later one at once."""
        self.stopping = True
        self.waiting.end_all()
        self.ends.end_all(self.journal)

    # --- inside ---------------------------------------------------------------------------------

    def _begin_bulk(self, command: Any, owner: str | None, size: int, at: float) -> Begun:
        """Find out whether a bulk command is possible, and do the first part of it."""
        bulk = self._apply(self.clock.epoch_ms(at), begin_bulk, self._engine, command, owner)
        begun = Begun(command, owner, bulk.reply, self._engine.epoch, at=at, bulk=bulk, done=done_by(bulk))
        self.journal.half.begin(command)
        self.journal.note_size(max(size, added_by(command)))
        if bulk.prepare():
            self._add_some(begun)
        self.journal.note(durable=is_durable(command))
        return begun

    def _add_some(self, begun: Begun) -> None:
        """Do some more of a bulk command; with its end the batch may be taken."""
        bulk, now, is_done = begun.bulk, self.clock.now(), True
        assert bulk is not None
        try:
            is_done = self._apply(now, bulk.add, BULK_SLICE, now, is_whole=False)
        except Refused as refused:
            begun.refused = refused
        finally:
            if is_done:
                begun.bulk, begun.reply = None, bulk.reply
                # 0: acks of nothing change nothing, nor does what is refused.
                begun.epoch = 0 if begun.refused else self.journal.last_epoch
                self.journal.half.end(begun.command)
                self.journal.forget_size()
            self.journal.note_part()

    def _run_now(self, command: c.Command) -> r.Reply:
        return self._apply(now := self.clock.now(), run, self._engine, command, now, None, SERVER)

    def _look(self, command: Any, owner: str | None) -> Begun:
        """Run a command that changes nothing; it is answered when what it saw is committed."""
        begun, now = Begun(command, owner, r.EMPTY_PULL), self.clock.now()
        try:
            begun.reply = self._apply(now, run, self._engine, command, now, owner, SERVER)
        except Refused as refused:
            begun.refused = refused
        settled_by = SPECS[type(command)].settled_by
        if settled_by == "job":
            begun.epoch = self.journal.epoch_of(command.id)
            if begun.epoch and self.journal.failing is not None:
                raise self.journal.down()
        elif settled_by == "everything" and not self.journal.is_stuck:
            begun.epoch = self.journal.last_epoch
        if begun.refused is not None and not begun.epoch:
            raise begun.refused
        if type(command) in AWAITS and command.timeout and begun.refused is None and not self.stopping:
            self._check_pollers()
            self.ends.join(begun)
        return begun

    def _check_pollers(self) -> None:
        if self.pulls_waiting + self.ends.waiting >= self._pollers_max:
            raise errors.TOO_MANY_WAITS.refuse(retry_after=1)

    def _apply(
        self, now: int, do: Callable[..., T], *args: Any, durable: bool = False, is_awaited: bool = True, is_whole: bool = True
    ) -> T:  # fmt: skip
        """Do what is due at ``now``, then run ``do`` and return its answer; ``is_whole``: it does all of its work, or nothing."""
        engine, mark = self._engine, None
        try:
            if engine.is_due(now):
                engine.advance(now)
                self.waiting.serve_woken(now)
                engine.handed = 0
            mark = (len(engine.changed), len(engine.events)) if is_whole else None
            return do(*args)
        except Exception as error:
            if not isinstance(error, Refused):
                self.broken.judge(error, mark)
            raise
        finally:
            # A refused command may have let deadlines pass before it was refused.
            self._settle(now, durable=durable, is_awaited=is_awaited)

    def _settle(self, now: int, *, durable: bool = False, is_awaited: bool = True) -> None:
        """Serve the waiters, wake the flusher and set the alarms after a step of the engine."""
        engine = self._engine
        try:
            if engine.workers.turned:
                self.waiting.turn()
            if engine.woken:
                self.waiting.serve_woken(now)
            if engine.ends:
                self.ends.tell()
            if engine.planner.notices:
                tell(engine.planner.take_notices())
            if not self.journal.in_turn:
                if self.journal.gathering:
                    self.journal.note(durable=durable, is_awaited=is_awaited)
                self._set_alarms()
            elif durable and self.journal.gathering:
                # The rest is done at the end of the turn, for all of its commands.
                self.journal.note(durable=True)
        except Exception as error:
            raise self.broken.note(error) from error

    def _set_alarms(self) -> None:
        engine = self._engine
        try:
            self.scheduler.set(0 if self.waiting.declined else engine.next_scheduled())
            self.stall_detector.set(engine.leases.next_due())
            self.rerunner.set(engine.reruns.due)
            self.auto_retrier.set(engine.auto_retries.due)
        except Exception as error:
            raise self.broken.note(error) from error

    async def _go_on(self, begun: "Begun") -> r.Reply:
        do = partial(self._do_slice, begun)
        return await go_on(begun, self.slices, self.journal, lambda *slice_: self.knowing(partial(do, *slice_)))

    def _do_slice(self, begun: "Begun", slice_: c.Command, said: c.Command) -> tuple[r.Reply, int] | None:
        if self.stopping:
            return None
        self.journal.check(fills=brings(slice_))
        epoch, now = self._engine.epoch, self.clock.now()
        slice_ = as_of_begin(slice_, self.clock.epoch_ms(begun.at))
        reply = self._apply(now, run, self._engine, slice_, now, begun.owner, begun.by, said)
        return reply, epoch if self.journal.gathering else 0

    async def _search(self, begun: "Begun") -> r.Reply:
        async with self.slices.next("searches", until=trio.current_time() + TOLD_S) as is_in_time:
            if not is_in_time:
                raise errors.BUFFERS_FULL.refuse(retry_after=1)
            found = await self.knowing(partial(self._look, begun.command, begun.owner))
        return await self.finish(found)

    async def _poll(self, begun: "Begun") -> r.Reply:
        command, owner, nothing = begun.command, begun.owner, begun.reply
        assert isinstance(command, c.Pull | c.PullBatch)
        if self.stopping:
            return nothing
        self._check_pollers()
        waiter = begun.waiter = Waiter(command, owner, begun.at)
        waiter.is_gone, waiter.hand = begun.is_gone, begun.hand
        if self.waiting.join(waiter):
            self.advance()
        self.pulls_waiting += 1
        parked_at = trio.current_time()
        try:
            with trio.move_on_after(command.timeout / 1000):
                await waiter.served.wait()
            begun.at += trio.current_time() - parked_at
            if waiter.reply is None:
                # Or its client has its job already.
                return nothing
            if waiter.handed > self.journal.committed:
                await self.journal.wait_committed(waiter.handed)
            reply, waiter.reply = waiter.reply, None
            return reply
        finally:
            self.pulls_waiting -= 1
            # Cancelled in the instant a job was handed to it.
            if waiter.reply is not None:
                self.give_back(waiter.reply)
            elif waiter in waiter.line:
                self.waiting.leave(waiter)
