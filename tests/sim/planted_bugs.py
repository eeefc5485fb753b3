"""Bugs that somebody could really write, each planted by a function: `test_planted.py` lets the simulation find them."""

from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any
from weakref import WeakSet

import pytest
import trio

from bunqueue_trio.api.event_stream import EventFeed
from bunqueue_trio.api.session import Session
from bunqueue_trio.engine import firing, job
from bunqueue_trio.engine.commands import HANDLERS, report
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.planner import Planner
from bunqueue_trio.engine.ready import Ready
from bunqueue_trio.engine.timers import Timers
from bunqueue_trio.engine.timing import next_slot
from bunqueue_trio.engine.workers import Workers
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.runtime import tree, waiting
from bunqueue_trio.runtime.audit import _Unsettled
from bunqueue_trio.runtime.begun import Begun
from bunqueue_trio.runtime.core import Core
from bunqueue_trio.runtime.half import Half
from bunqueue_trio.runtime.hub import Hub, Subscription
from bunqueue_trio.runtime.journal import Journal
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.services import RetentionSweeper
from bunqueue_trio.runtime.supervisor import Child
from bunqueue_trio.runtime.waiting import Waiter, WaitingPulls
from bunqueue_trio.storage.memory import MemoryStore
from bunqueue_trio.storage.store import Retention

Plant = Callable[[pytest.MonkeyPatch], None]


def answers_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    async def at_once(self: Journal, epoch: int) -> None:
        await trio.lowlevel.checkpoint()

    patch.setattr(Journal, "wait_committed", at_once)


def publishes_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    take = Journal._take

    def early(self: Journal) -> Any:
        batch, done = take(self)
        for hear in self.on_commit[:1]:
            hear(batch, 0)
        return batch, done

    patch.setattr(Journal, "_take", early)


def takes_a_refusal_for_a_commit(patch: pytest.MonkeyPatch) -> None:
    commit = Journal._commit

    async def hopeful(self: Journal, batch: Any) -> float:
        return await commit(self, batch) or 0.0

    patch.setattr(Journal, "_commit", hopeful)


def makes_a_new_batch_after_a_refusal(patch: pytest.MonkeyPatch) -> None:
    """A refused batch may be on the disk all the same: it has to be the same again."""

    async def anew(self: Journal) -> None:
        while True:
            batch, done = self._writing = self._take()
            if (seconds := await self._commit(batch)) is not None:
                self._finish(batch, done, seconds)
                return
            self._engine.changed |= dict.fromkeys(batch.jobs)
            self._engine.events[:0] = batch.heard
            self._writing = None
            await trio.sleep(0.05)

    patch.setattr(Journal, "flush", anew)


def forgets_the_timer_of_a_lease(patch: pytest.MonkeyPatch) -> None:
    arm = Timers.arm

    def only_the_first(self: Timers, what: job.Job, due: int) -> None:
        if not (self._active and what.stalls):
            arm(self, what, due)

    patch.setattr(Timers, "arm", only_the_first)


def keeps_a_completed_job_on_the_disk(patch: pytest.MonkeyPatch) -> None:
    commit = MemoryStore.commit

    def lossy(self: MemoryStore, batch: Any) -> None:
        kept = {row[0]: self._jobs[row[0]] for row in batch.ended if row[0] in self._jobs}
        commit(self, batch)
        self._jobs |= kept

    patch.setattr(MemoryStore, "commit", lossy)


def misses_the_wake_up_of_a_poll(patch: pytest.MonkeyPatch) -> None:
    enter = Engine._enter

    def silent(self: Engine, what: job.Job, state: job.State) -> None:
        enter(self, what, state)
        if what.attempts:
            self.woken.pop(what.queue, None)

    patch.setattr(Engine, "_enter", silent)


def turns_the_order_around_at_a_start(patch: pytest.MonkeyPatch) -> None:
    load = Engine.load

    def reversed_(self: Engine, jobs: Any, now: int) -> None:
        jobs = list(jobs)
        for one in jobs:
            one.order = -one.order
        load(self, jobs, now)

    patch.setattr(Engine, "load", reversed_)


def ignores_priority_below_zero(patch: pytest.MonkeyPatch) -> None:
    add = Ready.add

    def flat(self: Ready, what: job.Job) -> None:
        what.priority = max(0, what.priority)
        add(self, what)

    patch.setattr(Ready, "add", flat)


def leaks_the_waiters(patch: pytest.MonkeyPatch) -> None:
    poll = Core._poll
    kept: list[Any] = []

    async def leaky(self: Core, begun: Any) -> Any:
        line = self.waiting.lines
        try:
            return await poll(self, begun)
        finally:
            kept.append(list(line.values()))
            line.setdefault("leak", type(next(iter(line.values()), {}))())

    patch.setattr(Core, "_poll", leaky)


def leaks_subscriptions(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Hub, "unsubscribe", lambda self, subscription: None)


def checks_no_token(patch: pytest.MonkeyPatch) -> None:
    held = report.held
    patch.setattr(report, "held", lambda engine, job_id, token, now: held(engine, job_id, None, now))


def delivers_what_is_not_committed(patch: pytest.MonkeyPatch) -> None:
    begin = Core.begin

    def rash(self: Core, command: Any, *args: Any, **options: Any) -> Any:
        begun = begin(self, command, *args, **options)
        if type(command) in (c.Pull, c.PullBatch):
            begun.epoch = 0
        return begun

    patch.setattr(Core, "begin", rash)


def keeps_the_jobs_of_a_lost_connection(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Core, "release", lambda self, owner, *, dropped: None)


def takes_every_end_for_a_goodbye(patch: pytest.MonkeyPatch) -> None:
    """A job that kills its workers would do so for ever."""
    release = Core.release
    patch.setattr(Core, "release", lambda self, owner, *, dropped: release(self, owner, dropped=False))


def takes_a_goodbye_for_a_drop(patch: pytest.MonkeyPatch) -> None:
    release = Core.release
    patch.setattr(Core, "release", lambda self, owner, *, dropped: release(self, owner, dropped=True))


def gives_back_at_a_stop(patch: pytest.MonkeyPatch) -> None:
    leave = Session.__exit__

    def eager(self: Session, *args: Any) -> None:
        stopping, self._core.stopping = self._core.stopping, False
        leave(self, *args)
        self._core.stopping = stopping

    patch.setattr(Session, "__exit__", eager)


def leaves_a_stopped_poll_in_line(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Core, "stop_poll", lambda self, begun: True)


def skips_an_event_after_a_replay(patch: pytest.MonkeyPatch) -> None:
    replay = Hub.replay

    async def short(self: Hub, **wanted: Any) -> Any:
        events, reached = await replay(self, **wanted)
        return events[:-1] if len(events) > 2 else events, reached

    patch.setattr(Hub, "replay", short)


def tells_of_no_gap(patch: pytest.MonkeyPatch) -> None:
    take = Subscription.take
    patch.setattr(Subscription, "take", lambda self, limit=None: (take(self, limit)[0], 0))


def forgets_to_wake_a_session(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Journal, "ring_on_commit", lambda self, bell: None)


def tells_events_twice(patch: pytest.MonkeyPatch) -> None:
    past = EventFeed._next_of_the_past
    begun: WeakSet[EventFeed] = WeakSet()

    async def again(self: EventFeed) -> bytes:
        if self not in begun and self._replayed:
            self._replayed -= 1
        begun.add(self)
        return await past(self)

    patch.setattr(EventFeed, "_next_of_the_past", again)


def loses_replies_when_events_come(patch: pytest.MonkeyPatch) -> None:
    outgoing = Session.outgoing
    patch.setattr(Session, "outgoing", lambda self: outgoing(self)[-1:])


def keeps_a_record_that_nobody_wants(patch: pytest.MonkeyPatch) -> None:
    def kept(self: Engine, what: job.Job, error: str, now: int, *, wanted: bool) -> None:
        self._blame(what, error, now)
        self._end(what, job.State.FAILED, now)
        self.totals.failed += 1
        self._next_run(what, now)

    patch.setattr(Engine, "_to_dead_letters", kept)


def forgets_why_a_job_is_dead(patch: pytest.MonkeyPatch) -> None:
    give_up = Engine.give_up

    def nameless(self: Engine, what: job.Job, *args: Any, **options: Any) -> None:
        give_up(self, what, *args, **options)
        what.noted().reason = None

    patch.setattr(Engine, "give_up", nameless)


def ignores_a_whole_batch_for_one_token(patch: pytest.MonkeyPatch) -> None:
    ack_batch = report._ack_batch

    def all_or_nothing(engine: Engine, command: Any, now: int, owner: str | None) -> Any:
        try:
            for job_id, token in zip(command.ids, command.tokens or command.ids, strict=True):
                report.held(engine, job_id, token if command.tokens else None, now)
        except Refused:
            return r.DataReply(data={"ignoredIds": list(command.ids)})
        return ack_batch(engine, command, now, owner)

    patch.setitem(HANDLERS, c.AckBatch, all_or_nothing)


def forgets_to_sync_durable_pushes(patch: pytest.MonkeyPatch) -> None:
    note = Journal.note

    def as_any_other(self: Journal, *, durable: bool = False, **how: Any) -> None:
        note(self, **how)

    patch.setattr(Journal, "note", as_any_other)


def serves_the_last_poll_first(patch: pytest.MonkeyPatch) -> None:
    def turned(self: WaitingPulls, queue: str, now: int, left: int) -> int:
        line = self.lines[queue]
        while line and self._engine.offers(queue):
            waiter = next(reversed(line))
            self._engine.handed = 0
            reply = waiting.run(self._engine, waiter.command, now, waiter.owner)
            if not self.note_deliveries(reply):
                break
            del line[waiter]
            waiter.reply, waiter.handed = reply, self._engine.handed
            waiter.served.set()
        if not line:
            del self.lines[queue]
        return left

    patch.setattr(WaitingPulls, "_serve", turned)


def ends_polls_early(patch: pytest.MonkeyPatch) -> None:
    poll = Core._poll

    async def hasty(self: Core, begun: Any) -> Any:
        begun.command.timeout //= 2
        return await poll(self, begun)

    patch.setattr(Core, "_poll", hasty)


def serves_polls_that_have_gone(patch: pytest.MonkeyPatch) -> None:
    poll = Core._poll

    async def leaves_a_ghost(self: Core, begun: Any) -> Any:
        line = self.waiting.lines.setdefault(begun.command.queue, OrderedDict())
        done = False
        try:
            reply = await poll(self, begun)
            done = True
            return reply
        finally:
            if not done and self.waiting.lines.get(begun.command.queue) is line:
                line[Waiter(begun.command, begun.owner)] = None

    patch.setattr(Core, "_poll", leaves_a_ghost)


def never_deletes(patch: pytest.MonkeyPatch) -> None:
    async def idle(self: RetentionSweeper) -> None:
        await trio.lowlevel.checkpoint()

    patch.setattr(RetentionSweeper, "_work", idle)


def takes_seconds_for_milliseconds(patch: pytest.MonkeyPatch) -> None:
    prune = MemoryStore.prune

    def eager(self: MemoryStore, keep: Retention) -> int:
        newest = max((row.finished_at for row in self._finished.values()), default=keep.finished_since)
        age = newest - keep.finished_since
        return prune(self, keep._replace(finished_since=keep.finished_since + int(age * 0.9999)))

    patch.setattr(MemoryStore, "prune", eager)


def deletes_beside_a_commit(patch: pytest.MonkeyPatch) -> None:
    work = RetentionSweeper._work

    async def unlocked(self: RetentionSweeper) -> None:
        journal, self._journal = self._journal, SimpleNamespace(disk=trio.Lock())  # type: ignore[assignment]
        try:
            await work(self)
        finally:
            self._journal = journal

    patch.setattr(RetentionSweeper, "_work", unlocked)


def leaves_a_failed_task_dead(patch: pytest.MonkeyPatch) -> None:
    supervise = tree.supervise

    async def once(child: Child) -> None:
        if child.name not in ("checkpointer", "retention", "rates"):
            await supervise(child)
            return
        with suppress(Exception):
            await child.run()

    patch.setattr(tree, "supervise", once)


def counts_one_queue_for_all(patch: pytest.MonkeyPatch) -> None:
    def counts(self: Server) -> dict[str, int]:
        known = {state.value: n for state, n in self.engine.counts.items()} | {"completed": 0, "failed": 0}
        return known | {state: n for (_, state), n in self.store.finished_counts.items()}

    patch.setattr(Server, "counts", counts)


def audits_what_is_being_written(patch: pytest.MonkeyPatch) -> None:
    """A finding that is none is as bad as none."""
    begin = _Unsettled.__init__

    def blind(self: _Unsettled, engine: Engine, journal: Journal, meanwhile: Any) -> None:
        begin(self, engine, journal, meanwhile)
        self._sources = (engine.changed,)  # type: ignore[assignment]

    patch.setattr(_Unsettled, "__init__", blind)


def replays_the_events_of_all_queues(patch: pytest.MonkeyPatch) -> None:
    replay = Hub.replay
    patch.setattr(Hub, "replay", lambda self, **wanted: replay(self, **wanted | {"queue": None}))


def renews_the_lease_of_anybody(patch: pytest.MonkeyPatch) -> None:
    def heartbeat(engine: Engine, command: Any, now: int, owner: str | None) -> Any:
        engine.renew(report.held(engine, command.id, None, now), now, command.duration, owner, proven=True)
        return r.DataReply(data={"ok": True, "count": 1})

    patch.setitem(HANDLERS, c.Heartbeat, heartbeat)


def leaves_a_job_with_a_dead_connection(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Workers, "is_of_holder", lambda self, connection, lease: False)


def begins_schedules_anew_at_a_start(patch: pytest.MonkeyPatch) -> None:
    """What was missed while the server was down would be missed for good."""
    load = Planner.load

    def forgetful(self: Planner, now: int) -> None:
        load(self, now)
        for name, plan in self.plans.items():
            self.settle(name, now)
            self.arm(name, next_slot(plan.timing, self.progress[name].settled))

    patch.setattr(Planner, "load", forgetful)


def makes_the_job_of_a_slot_twice(patch: pytest.MonkeyPatch) -> None:
    """A slot that is late is not left behind, as a scheduler does that counts from the time of its last run."""
    patch.setattr(Planner, "settle", lambda self, name, slot: None)
    patch.setattr(firing, "_there_already", lambda engine, turns: ())


def commits_half_of_a_bulk_push(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Half, "begin", lambda self, command: None)
    patch.setattr(Half, "end", lambda self, command: None)


def waits_for_the_disk_between_two_steps(patch: pytest.MonkeyPatch) -> None:
    """Another's commit cannot begin before the bulk push has ended, and that one waits for it."""

    async def add_rest(self: Core, begun: Begun) -> None:
        while begun.bulk is not None:
            await self.journal.wait_committed(begun.epoch)
            self._add_some(begun)

    patch.setattr(Core, "add_rest", add_rest)
