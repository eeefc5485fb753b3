"""However much one commit has, no step of it is as long: it is filled, counted and let go of some at a time."""

from collections.abc import Sequence
from typing import Any

import pytest
import trio
from msgspec import Raw

from bunqueue_trio.engine.audit import AuditFault, Pass
from bunqueue_trio.errors import InvariantBroken
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.runtime import afterwards
from bunqueue_trio.runtime.supervisor import supervise
from bunqueue_trio.storage import making
from bunqueue_trio.storage.store import Batch
from tests.runtime.runtime_world import Answers, World, settled

FEW, MANY = 10, 95


class Rounds(trio.abc.Instrument):
    """What of a batch is there when a step ends."""

    def __init__(self) -> None:
        self.batch: Batch | None = None
        self.found: list[tuple[int, int]] = []

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.batch is not None:
            self.found.append((len(self.batch.new), len(self.batch.jobs)))


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (making, afterwards):
        monkeypatch.setattr(module, "FILLED_AT_ONCE", FEW)
    monkeypatch.setattr("bunqueue_trio.runtime.journal.INLINE_ROWS_MAX", FEW)


async def gather(world: World, answers: Answers, many: int = MANY) -> None:
    for n in range(many):
        await answers.ask(f"push {n}", world.push)


async def test_it_is_filled_and_let_go_of_a_few_rows_in_each_step(world: World, answers: Answers):
    await gather(world, answers)
    rounds, take = Rounds(), world.journal._take

    def noting() -> Any:
        taken = take()
        rounds.batch = taken[0]
        return taken

    world.journal._take = noting  # type: ignore[method-assign]
    trio.lowlevel.add_instrument(rounds)
    await world.journal.flush()
    trio.lowlevel.remove_instrument(rounds)
    assert len(answers.given) == MANY
    assert max(rows for rows, _ in rounds.found) == MANY
    for (rows, jobs), (rows_then, jobs_then) in zip(rounds.found, rounds.found[1:], strict=False):
        assert abs(rows_then - rows) <= 2 * FEW
        assert abs(jobs_then - jobs) <= 2 * FEW
    assert rounds.found[-1] == (0, 0)
    assert rounds.batch is not None
    assert (rounds.batch.heard, rounds.batch.events) == ((), [])


async def test_it_is_counted_once_a_few_rows_in_each_step(world: World, answers: Answers):
    await gather(world, answers)
    ids = []
    await world.journal.flush()
    for n in range(MANY):
        ids.append(await world.pull())
        await answers.ask(f"ack {n}", world.ack, ids[-1])
    heard: list[str] = []
    finished: list[str] = []
    sizes: list[int] = []

    def count(events: Sequence[Any], rows: Sequence[Any]) -> None:
        heard.extend(event.job_id for event in events if event.event_type == "completed")
        finished.extend(row.id for row in rows)
        sizes.append(max(len(events), len(rows)))

    world.journal.afterwards.on_rows.append(count)
    await world.journal.flush()
    assert heard == finished == ids
    assert max(sizes) == FEW // 2
    assert world.stored() == {}
    assert len(world.engine.jobs) == 0


async def test_what_is_changed_meanwhile_waits_for_the_end_of_that_and_is_answered(world: World, answers: Answers):
    """To commit it in its own step would be to do all of that first."""
    await gather(world, answers)
    left: list[bool] = []
    begin = world.journal.afterwards.begin

    def noting(batch: Batch) -> None:
        left.append(world.journal.afterwards.is_busy)
        begin(batch)
        if len(left) == 1:
            answers.nursery.start_soon(push_some)

    async def push_some() -> None:
        for _ in range(3):
            with world.core.turns.many:
                world.core.begin(c.Push(queue="q", data=Raw(b"1")))
                world.journal.hurry()
            await trio.lowlevel.checkpoint()

    world.journal.afterwards.begin = noting  # type: ignore[method-assign]
    world.start(answers.nursery)
    await settled()
    assert world.journal.commits > 1
    assert left == [False] * len(left)
    assert len(world.stored()) == MANY + 3


class Audits(trio.abc.Instrument):
    """Holds everything against everything after each step in which nothing waits for the disk."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.faults: list[AuditFault] = []
        self.ended: list[int] = []
        """How many ended jobs were in memory."""

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        engine, journal = self.world.engine, self.world.journal
        if journal.dirty:
            return
        self.ended.append(len(engine.jobs) - sum(engine.counts.values()))
        audit = Pass(engine, ())
        audit.rows(self.world.store.stored(0, audit.last_seq, MANY), audit.last_seq, ())
        for _ in audit.structures(lambda: journal.pending):
            pass
        audit.close()
        self.faults += audit.faults


async def test_the_self_audit_accuses_nobody_of_the_jobs_that_leave_memory_in_steps(
    world: World, answers: Answers, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bunqueue_trio.engine.engine.FORGET_SLICE", FEW)
    await gather(world, answers)
    await world.journal.flush()
    for n in range(MANY):
        await answers.ask(f"ack {n}", world.ack, await world.pull())
    audits = Audits(world)
    trio.lowlevel.add_instrument(audits)
    await world.journal.flush()
    trio.lowlevel.remove_instrument(audits)
    assert audits.ended[0] > FEW
    assert audits.ended[-1] == 0
    assert audits.faults == []


async def test_rows_that_cannot_be_put_in_end_the_process_and_nothing_is_written(
    world: World, answers: Answers, monkeypatch: pytest.MonkeyPatch
):
    """A flusher that began anew would go on behind them, and commit all the others."""
    await gather(world, answers)
    weigh, calls = making.weight_of, [0]

    def failing(jobs: Any) -> int:
        calls[0] += 1
        if calls[0] == 2:
            raise MemoryError
        return weigh(jobs)

    monkeypatch.setattr(making, "weight_of", failing)
    with trio.fail_after(60), pytest.raises(InvariantBroken):
        await supervise(world.flusher)
    assert world.stored() == {}
