"""The naive model beside the engine of the running server: every step is done twice, and must come out alike.

The model (``tests/engine/model.py``) is written from the documented behaviour and scans lists. What the server
asks of its engine, in whatever order its tasks come to it, the model is asked too; answers, events, lines,
counts and deadlines are compared. What a crash leaves is the model as of the last commit.
"""

import json
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from bunqueue_trio.config import AUTO_RETRY_SLICE, RESTART_GRACE_MS, Settings
from bunqueue_trio.engine.auto_retrying import auto_slice
from bunqueue_trio.engine.commands import run
from bunqueue_trio.engine.commands.push import Bulk
from bunqueue_trio.engine.commands.report import Failures
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.job import Job, State
from bunqueue_trio.engine.rerunning import rerun_slice
from bunqueue_trio.engine.reruns import Rerun
from bunqueue_trio.errors import Refused, StoreError
from bunqueue_trio.protocol import codec
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.caller import SERVER, By
from bunqueue_trio.protocol.commands import Command
from bunqueue_trio.protocol.replies import Reply
from bunqueue_trio.runtime.half import Bulky, begin_bulk
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.storage.store import Batch
from tests.engine.checks import check_agreement, check_structure
from tests.engine.model import No, Record, Snapshot
from tests.engine.model_commands import Model
from tests.engine.model_configs import return_dead
from tests.engine.model_jobs import Parts
from tests.engine.model_reruns import go_on
from tests.sim.kept import differences
from tests.sim.sim_disk import Platter

RECORDS_EVERY = 128
"""After this many steps the records of finished jobs are compared with the disk's."""

THOROUGH_EVERY = 8
"""After this many steps all tables are compared, too, and at each commit and start; answers and events always."""

Fail = Callable[[str], None]
Step = tuple[Any, ...]
"""What was done: for who reads of a difference after it."""


class Lockstep:
    """Follows one server after the other over the same disk."""

    def __init__(self, settings: Settings, platter: Platter, fail: Fail) -> None:
        self._ids: deque[str] = deque()
        self._rules = {"lease": settings.lease_ms, "stalls_max": settings.stalls_max, "grace": RESTART_GRACE_MS}
        self.model = Model(self._next_id, **self._rules)
        self._fail = fail
        self._server: Server | None = None
        self._platter = platter
        self._depth = 0
        self._heard = 0
        self._taken: dict[int, Snapshot] = {}
        self._committed = Snapshot([], [], {}, {}, {})
        self.model.committed = lambda: self._committed.ended
        self.model.durable = lambda: self._committed
        self.model.places = platter.kept
        self.model.numbers = lambda: platter._ends
        self.steps = 0
        self.goodbyes: dict[str, bool] = {}
        """Of connections that have ended: whether the client had said goodbye, as the network knows."""
        self.on_load: Callable[[set[str]], None] = lambda _: None
        platter.on_batch.append(self._note_commit)
        platter.on_prune = self._note_prune

    # --- the hooks --------------------------------------------------------------------------------

    def attach(self, server: Server) -> None:
        """Follow ``server`` from before its engine has loaded anything."""
        self._server, self._heard = server, 0
        engine: Any = server.engine
        engine.new_id = self._recorded(engine.new_id)
        model = self.model
        for name, mirror in (
            ("advance", lambda now, **_: model.advance(now)), ("release_owner", model.release_owner),
            ("forget_silent", model.forget_silent), ("give_back", model.give_back_one),
        ):  # fmt: skip
            self._follow(engine, name, mirror)
        load, take = engine.load, engine.take

        def loaded(jobs: Iterable[Job], now: int, *asked: Any) -> None:
            load(jobs, now, *asked)
            self._taken.clear()
            model.restart(self._committed, now)
            model.events, model.reserved = [], None
            self.check(("load",))
            self.check_records()
            self.on_load(set(engine.jobs))

        def taken() -> Any:
            changes = take()
            if self._server is server:
                self._taken[changes.epoch] = model.snapshot()
                self._heard = 0
            return changes

        engine.load, engine.take = loaded, taken

    def detach(self) -> None:
        """The process is dead: what it still does is nobody's business."""
        self._server = None

    def check_stopped(self) -> None:
        """A server has stopped in good order: everything that it did is on the disk."""
        if self._server is not None:
            engine = self._server.engine
            if engine.changed or engine.events or self._taken:
                self._fail(
                    f"a server has stopped, and not written {len(engine.changed)} changes and {len(self._taken)} batches"
                )

    def run(self, engine: Engine, command: Any, now: int, owner: str | None = None, by: By = SERVER, *said: Any) -> Any:
        """Stands for the engine's ``run`` in the runtime."""
        if not self.follows(engine):
            return run(engine, command, now, owner, by, *said)
        self._check_turn(command)
        woken, answer = set(engine.woken), None
        try:
            outcome = self._inside(run, engine, command, now, owner, by, *said)
            answer = json.loads(codec.encode(outcome))
            return outcome
        except Refused as refused:
            answer = (refused.status, str(refused))
            raise
        except StoreError:  # the archive could not be read; what was due has happened all the same
            answer = "unread"
            raise
        finally:
            if answer is not None and self._server is not None:
                if answer == "unread":
                    # Ids that it drew belong to nothing: what it would have made is in neither engine.
                    self._ids.clear()
                    self.model.advance(now)
                    expected: Any = answer
                else:
                    self.model.by = by
                    expected = self.model.do(command, now, owner)
                self._after((command, now, owner), answer, expected, woken)

    def auto_slice(self, engine: Engine, name: str, now: int) -> None:
        """Stands for the engine's ``auto_slice`` in the runtime."""
        if not self.follows(engine):
            auto_slice(engine, name, now)
            return
        woken, order = set(engine.woken), list(self._platter.kept())
        self._inside(auto_slice, engine, name, now)
        return_dead(self.model, name, now, order, AUTO_RETRY_SLICE)
        self._after(("auto-retry", name, now), None, None, woken)

    def rerun_slice(self, engine: Engine, one: Rerun, most: int, now: int) -> None:
        """Stands for the engine's ``rerun_slice`` in the runtime."""
        if not self.follows(engine):
            rerun_slice(engine, one, most, now)
            return
        woken = set(engine.woken)
        self._inside(rerun_slice, engine, one, most, now)
        go_on(self.model, one.id, most, now)
        self._after(("rerun", one.id, most, now), None, None, woken)

    def begin_bulk(self, engine: Engine, command: Any, owner: str | None) -> Any:
        """Stands for the runtime's ``begin_bulk``: of what is done in steps."""
        if not self.follows(engine):
            return begin_bulk(engine, command, owner)
        woken, parts, step = set(engine.woken), self._parts(command, owner), (command, "begins")
        try:
            bulk = self._inside(begin_bulk, engine, command, owner)
        except Refused as refused:
            self._after(step, (refused.status, str(refused)), _answer_of(parts, None), woken)
            raise
        self._after(step, None, _answer_of(parts, None), woken)
        return FollowedBulk(self, bulk, command, parts, engine)

    def _parts(self, command: Any, owner: str | None) -> Parts:
        model = self.model
        if isinstance(command, c.HeartbeatBatch):
            return model.beating(command, owner)
        parts: Any = {c.PushBatch: model.pushing, c.AckBatch: model.acking, c.FailBatch: model.failing}
        return parts[type(command)](command)  # type: ignore[no-any-return]

    def add_some(self, followed: "FollowedBulk", count: int, now: int) -> bool:
        """Do the next items of a bulk command twice."""
        bulk = followed.bulk
        if not self.follows(followed.engine):
            return bulk.add(count, now)
        woken, begun = set(followed.engine.woken), _dealt_with(bulk, count)
        done = bool(self._inside(bulk.add, count, now))
        items = _dealt_with(bulk, begun + count) - begun
        answer = json.loads(codec.encode(bulk.reply)) if done else None
        self._after((followed.command, f"next {count}", now), answer, _answer_of(followed.parts, (items, now)), woken)
        return done

    def follows(self, engine: Any) -> bool:
        """Return whether this is the engine of the server that lives."""
        return self._server is not None and self._server.engine is engine

    def _follow(self, engine: Any, name: str, mirror: Callable[..., None]) -> None:
        real = getattr(engine, name)

        def followed(*args: Any, **how: Any) -> None:
            if self._depth or not self.follows(engine):
                real(*args, **how)
                return
            if name == "release_owner":
                self._check_ending(*args, **how)
            woken = set(engine.woken)
            self._inside(real, *args, **how)
            mirror(*args, **how)
            self._after((name, *args, how), None, None, woken)

        setattr(engine, name, followed)

    def _inside(self, real: Callable[..., Any], *args: Any, **how: Any) -> Any:
        self._depth += 1
        self._ids.clear()
        try:
            return real(*args, **how)
        finally:
            self._depth -= 1

    def _recorded(self, new_id: Callable[[int], str]) -> Callable[[int], str]:
        def recorded(now: int) -> str:
            made = new_id(now)
            if self._depth:
                self._ids.append(made)
            return made

        return recorded

    def _next_id(self, _: int) -> str:
        return self._ids.popleft() if self._ids else "an id that the engine did not ask for"

    # --- the disk ---------------------------------------------------------------------------------

    def _note_commit(self, batch: Batch) -> None:
        self._committed = self._taken.pop(batch.epoch)

    def _note_prune(self, job_ids: set[str]) -> None:
        """Forget with the store; an id may have come back to life meanwhile."""
        gone = {job.serial for job in self._committed.ended if job.id in job_ids}
        if gone:
            for snapshot in [self._committed, *self._taken.values()]:
                snapshot.ended[:] = [job for job in snapshot.ended if job.serial not in gone]
            self.model.ended = [job for job in self.model.ended if job.serial not in gone]

    # --- the comparison -----------------------------------------------------------------------------

    def _after(self, step: Step, answer: Any, expected: Any, woken: set[str]) -> None:
        if self._server is None:
            return
        self.steps += 1
        engine, model = self._server.engine, self.model
        if answer != expected:
            self._fail(f"{_told(step)}: the server answers {answer}, the model {expected}")
        if self._ids:
            self._fail(f"{_told(step)}: the engine made ids that the model did not: {list(self._ids)}")
        new = set(engine.woken) - woken
        if not (model.woken <= set(engine.woken) and new <= model.woken):
            self._fail(f"{_told(step)}: queues woken are {sorted(new)}, expected {sorted(model.woken)}")
        model.woken.clear()
        self._compare_events(step)
        if self.steps % THOROUGH_EVERY == 0:
            self.check(step)
        if self.steps % RECORDS_EVERY == 0:
            self.check_records()

    def _compare_events(self, step: Step) -> None:
        assert self._server is not None
        engine, model = self._server.engine, self.model
        events = [json.loads(codec.encode(event)) for event in engine.events[self._heard :]]
        self._heard = len(engine.events)
        if events != model.events:
            self._fail(f"{_told(step)}: events are {events}, expected {model.events}")
        model.events = []

    def _check_ending(self, owner: str, now: int, *, dropped: bool) -> None:
        """A goodbye is a goodbye, and a stop takes no jobs from those who work on them."""
        assert self._server is not None
        if dropped is self.goodbyes.pop(owner):
            self._fail(f"the end of {owner} counts as {'a drop' if dropped else 'a goodbye'}, and was none")
        if self._server.stop.is_set():
            self._fail(f"the jobs of {owner} are given back at a stop")

    def _check_turn(self, command: Any) -> None:
        """A waiting pull is served when it is the first of its line."""
        assert self._server is not None
        if not isinstance(command, c.Pull | c.PullBatch):
            return
        line = list(self._server.core.waiting.lines.get(command.queue, ()))
        if any(waiter.command is command for waiter in line[1:]):
            self._fail(f"a waiting pull at {command.queue!r} is served before one that came earlier")

    def check_records(self) -> None:
        """Compare the records of finished jobs that are on the disk, and what else is."""
        kept = {job_id: _record(job) for job_id, job in self._platter.kept().items()}
        expected = {job.id: _expected(job) for job in self._committed.ended}
        for job_id in sorted(kept.keys() | expected.keys()):
            if kept.get(job_id) != expected.get(job_id):
                self._fail(f"the record of {job_id} is {kept.get(job_id)}, expected {expected.get(job_id)}")
                return
        for difference in differences(self._platter, self._committed):
            self._fail(difference)
            return

    def check(self, step: Step) -> None:
        """Compare everything there is."""
        if self._server is None:
            return
        writing = self._server.journal._writing
        try:
            check_structure(self._server.engine, list(writing[0].jobs) if writing else [])
            check_agreement(self._server.engine, self.model)
        except AssertionError as error:
            self._fail(f"after {_told(step)}: {what_was_asserted(error)}")


class FollowedBulk:
    """A bulk command in steps, each of which is done twice."""

    def __init__(self, lockstep: Lockstep, bulk: Bulky, command: Command, parts: Parts, engine: Engine) -> None:
        self.lockstep = lockstep
        self.bulk = bulk
        self.command = command
        self.parts = parts
        self.engine = engine
        self.prepare = bulk.prepare

    @property
    def reply(self) -> Reply:
        return self.bulk.reply

    def add(self, count: int, now: int) -> bool:
        """Do the next ``count``; return whether these were the last."""
        return self.lockstep.add_some(self, count, now)


def _dealt_with(bulk: Any, otherwise: int) -> int:
    """How many items of a bulk command have been dealt with, where that goes by what is in them: texts, or names of others."""
    if isinstance(bulk, Failures):
        return len(bulk._run_at)
    return len(bulk.reply.ids) if isinstance(bulk, Bulk) else otherwise


def _answer_of(parts: Parts, asked: tuple[int, int] | None) -> Any:
    """Return what the model says to the next items; None: to begin."""
    try:
        answer = next(parts) if asked is None else parts.send(asked)
    except No as no:
        return no.args
    return None if answer is None else {"ok": True} | answer


def _record(job: Job) -> Any:
    """What is kept of a finished job; of one that wanted no record only that it was."""
    if job.options.remove_on_complete and job.state is State.COMPLETED:
        return job.queue
    note = job.noted()
    return (
        job.queue, job.state.value, job.data, job.priority, job.created_at, job.run_at, job.attempts, job.stalls,
        job.progress, job.started_at, note.finished_at, note.error, note.message, note.reason, note.result,
        note.auto_retries,
    )  # fmt: skip


def _expected(job: Record) -> Any:
    if job.spec.remove_on_complete and job.state == "completed":
        return job.queue
    return (
        job.queue, job.state, bytes(job.spec.data), job.spec.priority, job.created, job.run_at, job.attempts, job.stalls,
        job.progress, job.started, job.finished, job.error, job.message, job.cause, job.result,
        job.returns,
    )  # fmt: skip


def _told(step: Step) -> str:
    """A step in words that are the same in each run."""
    return " ".join(codec.encode(part).decode() if isinstance(part, Command) else str(part) for part in step)


def what_was_asserted(error: AssertionError) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{error} [{where.name}: {where.line}]"
