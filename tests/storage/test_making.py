"""A large batch is made in several steps, and what is left for the step that takes it is little."""

import pytest
from msgspec import Raw

from bunqueue_trio.engine.commands import apply
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.job import State
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.storage import making
from bunqueue_trio.storage.making import MADE_AT_ONCE, Making, make_batch
from bunqueue_trio.storage.memory import MemoryStore
from tests.storage.ledger import NOW


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the jobs of which rows are made before their batch is taken, in order."""
    made: list[str] = []

    def noting(job, *rest, **named):
        made.append(job.id)
        return _row(job, *rest, **named)

    _row = making._row
    monkeypatch.setattr(making, "_row", noting)
    return made


@pytest.fixture
def engine() -> Engine:
    ids = iter(range(10**6))
    return Engine(lambda _: f"id-{next(ids)}", MemoryStore())


def push(engine: Engine, n: int) -> list[str]:
    reply = apply(engine, c.PushBatch(queue="q", jobs=[c.JobSpec(data=Raw(b"1"))] * n), NOW)
    return reply.ids


def test_each_step_makes_a_part(engine: Engine, rows: list[str]):
    ids = push(engine, 3 * MADE_AT_ONCE + 1)
    some = Making()
    counts = []
    while some.make_some(engine, 0):
        counts.append(len(rows))
    assert counts == [MADE_AT_ONCE, 2 * MADE_AT_ONCE, 3 * MADE_AT_ONCE, 3 * MADE_AT_ONCE + 1]
    assert sorted(rows) == sorted(ids)
    assert len(some.take()["made"]) == len(ids)


def test_few_are_left_for_the_step_that_takes_them(engine: Engine, rows: list[str]):
    push(engine, MADE_AT_ONCE)
    assert Making().make_some(engine, MADE_AT_ONCE) is False
    assert rows == []


def test_a_job_that_changes_gets_another_row(engine: Engine, rows: list[str]):
    ids = push(engine, 2)
    some = Making()
    assert some.make_some(engine, 0)
    apply(engine, c.ChangePriority(id=ids[0], priority=7), NOW)
    assert some.make_some(engine, 0)
    assert sorted(rows) == sorted([*ids, ids[0]])
    assert some.make_some(engine, 0) is False


def test_what_was_left_of_a_batch_when_it_was_taken_does_not_come_into_the_next_one(engine: Engine):
    push(engine, MADE_AT_ONCE + 3)
    some = Making()
    assert some.make_some(engine, 0)
    engine.take()
    some.take()
    ids = push(engine, 2)
    while some.make_some(engine, 0):
        pass
    assert [job.id for job in engine.changed] == ids


def test_of_a_job_that_leaves_nothing_there_is_nothing_to_be_made(engine: Engine):
    ids = push(engine, 2)
    for job_id in ids:
        apply(engine, c.Cancel(id=job_id), NOW)
    assert {job.state for job in engine.changed} == {State.REMOVED}
    some = Making()
    assert [some.make_some(engine, 0) for _ in range(3)] == [True, False, False]


def test_a_large_batch_is_filled_in_steps_and_says_how_its_jobs_were_when_it_was_taken(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(making, "FILLED_AT_ONCE", 3)
    ids = push(engine, 10)
    apply(engine, c.Pull(queue="q"), NOW)
    changes = engine.take()
    same = make_batch(changes, NOW, durable=False, last_event_id=0)
    some = Making()
    batch = some.batch(changes, NOW, last_event_id=0, stamp=0)
    sizes = []
    while not some.is_whole:
        sizes.append(len(batch.new))
        # Whatever happens in between.
        apply(engine, c.Cancel(id=ids[len(sizes)]), NOW)
        some.fill_some()
    assert sizes == [0, 3, 6, 9]
    assert batch.new == same.new
    assert batch.ended == batch.finished == []
    assert list(batch.jobs) == list(same.jobs)
    assert batch.weight == same.bytes() + same.data_bytes()


def test_whatever_became_of_a_job_has_its_row_in_a_batch_that_is_filled_in_steps(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(making, "FILLED_AT_ONCE", 2)
    old = push(engine, 4)
    engine.forget(engine.take().jobs)
    apply(engine, c.Pull(queue="q"), NOW)
    apply(engine, c.Update(id=old[1], data=Raw(b"2")), NOW)
    apply(engine, c.Cancel(id=old[2]), NOW)
    apply(engine, c.Discard(id=old[3]), NOW)
    new = push(engine, 3)
    apply(engine, c.Discard(id=new[0]), NOW)
    apply(engine, c.Cancel(id=new[1]), NOW)
    changes = engine.take()
    same = make_batch(changes, NOW, durable=False, last_event_id=0)
    some = Making()
    batch = some.batch(changes, NOW, last_event_id=0, stamp=0)
    while not some.is_whole:
        some.fill_some()
    assert (len(same.new), len(same.changed), len(same.rewritten), len(same.ended), len(same.finished)) == (
        1,
        1,
        1,
        2,
        2,
    )
    for name in ("new", "changed", "rewritten", "ended", "finished"):
        assert sorted(getattr(batch, name), key=str) == sorted(getattr(same, name), key=str), name
