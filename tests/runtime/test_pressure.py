"""How much may gather: as the disk turns out to be; large requests wait for their turn, small ones pass."""

import pytest
import trio
from msgspec import Raw
from trio.testing import wait_all_tasks_blocked

from bunqueue_trio.config import (
    GATHER_JOBS_MAX,
    GATHER_JOBS_MIN,
    LARGE_BODY_BYTES,
    MIB,
    PENDING_JOBS_MIN,
    SMALL_BODY_BYTES,
    TURN_S,
    WRITTEN_ALONE,
)
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.runtime.pressure import Pressure
from tests.runtime.runtime_world import Answers, VirtualThread, World
from tests.storage.faulty import Fault

LARGE = LARGE_BODY_BYTES + 1
MEDIUM = SMALL_BODY_BYTES + 1
PUSH = c.Push(queue="q", data=Raw(b"1"))


def gathers(pressure: Pressure) -> int:
    """After how many jobs large requests wait."""
    return next(jobs for jobs in range(100_000) if pressure.fills(jobs, 0))


def refuses_at(pressure: Pressure) -> int:
    """After how many jobs everything is refused."""
    return next(jobs for jobs in range(0, 100_001, 100) if pressure.refuses(jobs, 0))


def test_little_gathers_while_nothing_is_known_of_the_disk():
    pressure = Pressure(50_000, 64 * MIB)
    assert (gathers(pressure), refuses_at(pressure)) == (1000, 5000)
    assert pressure.fills(0, 64 * MIB // 50)
    assert not pressure.fills(0, 64 * MIB // 50 - 1)


@pytest.mark.parametrize(
    ("jobs_a_second", "gather", "pending"),
    [(1_000_000, GATHER_JOBS_MAX, 50_000), (100_000, 2000, 10_000), (30_000, 600, 3000), (1000, GATHER_JOBS_MIN, PENDING_JOBS_MIN)],
)  # fmt: skip
def test_as_much_gathers_as_the_disk_takes_in_a_moment(jobs_a_second: int, gather: int, pending: int):
    pressure = Pressure(50_000, 64 * MIB)
    pressure.learn(jobs_a_second // 10, 0, 0.1)
    assert gathers(pressure) == pytest.approx(gather, abs=1)
    assert refuses_at(pressure) == pytest.approx(pending, abs=100)


def test_what_empties_the_queues_is_not_refused_for_one_bulk_push_on_a_slow_disk():
    pressure = Pressure(50_000, 64 * MIB)
    pressure.learn(3000, 0, 0.1)
    assert pressure.refuses(10_000, 0)
    assert not pressure.refuses_to_empty(10_000, 64 * MIB)
    assert pressure.refuses_to_empty(60_000, 0), "it would wait for two seconds"
    assert pressure.refuses_to_empty(0, 128 * MIB)
    pressure.learn(100_000, 0, 0.1)
    assert not pressure.refuses_to_empty(99_999, 0)
    assert pressure.refuses_to_empty(100_000, 0)


def test_the_same_holds_for_bytes():
    pressure = Pressure(50_000, 64 * MIB)
    pressure.learn(2, 10 * MIB, 0.1)
    assert pressure.fills(0, 2 * MIB + 1)
    assert not pressure.fills(0, 2 * MIB - 1024)
    assert pressure.refuses(0, 64 * MIB)
    assert not pressure.refuses(0, 64 * MIB - 1)  # one large request refuses no small one


def test_a_disk_is_judged_by_the_best_of_its_last_large_commits():
    pressure = Pressure(50_000, 64 * MIB)
    pressure.learn(10_000, 0, 0.1)
    for _ in range(3):
        pressure.learn(10_000, 0, 10)
    pressure.learn(1, 1, 10)  # a small one says nothing
    assert gathers(pressure) == pytest.approx(2000, abs=1)
    pressure.learn(10_000, 0, 10)
    assert gathers(pressure) == GATHER_JOBS_MIN


def test_the_settings_are_never_exceeded():
    pressure = Pressure(3, MIB)
    assert (gathers(pressure), pressure.refuses(3, 0), pressure.refuses(2, MIB)) == (3, True, True)
    pressure.learn(1000, MIB, 0.001)
    assert (gathers(pressure), pressure.refuses(3, 0), pressure.refuses(2, MIB)) == (3, True, True)


async def turn(world: World, size: int) -> None:
    """Begin a push of this many bytes as a transport does."""
    if world.journal.must_wait(size):
        await world.journal.wait_turn()
    world.core.begin(PUSH, size=size)


async def fill(world: World) -> None:
    """Let a batch gather that is as large as may be."""
    world.core.begin(c.PushBatch(queue="q", jobs=[c.JobSpec(data=Raw(b"1"))] * GATHER_JOBS_MIN))


async def test_large_requests_wait_for_the_next_batch_in_line_and_small_ones_pass(
    answers: Answers, thread: VirtualThread
):
    world = answers.world
    world.store.inline, thread.delay_s = False, 0.5
    await fill(world)
    for name, size in {"large": LARGE, "medium": MEDIUM, "larger": LARGE, "small": SMALL_BODY_BYTES}.items():
        await answers.ask(name, turn, world, size)
    assert [name for name, _ in answers.given] == ["small"]
    world.start(answers.nursery, services=False)  # it is being committed, and the next one gathers
    await trio.sleep(0.1)
    assert [name for name, _ in answers.given] == ["small", "large", "medium", "larger"]
    assert not [answer for _, answer in answers.given if answer is not None]


@pytest.mark.parametrize(("jobs", "waits"), [(WRITTEN_ALONE, False), (WRITTEN_ALONE + 1, True)])
@pytest.mark.thorough
async def test_a_large_request_waits_while_a_very_large_batch_is_written(
    answers: Answers, thread: VirtualThread, jobs: int, waits: bool
):
    world = World(pending_max=50_000)
    world.store.inline, thread.delay_s = False, 0.5
    world.core.begin(c.PushBatch(queue="q", jobs=[c.JobSpec(data=Raw(b"1"))] * jobs))
    world.start(answers.nursery, services=False)
    await wait_all_tasks_blocked()
    assert len(world.journal.writing) == jobs
    answers.world = world
    await answers.ask("large", turn, world, LARGE)
    await answers.ask("small", turn, world, SMALL_BODY_BYTES)
    assert [name for name, _ in answers.given] == (["small"] if waits else ["large", "small"])
    await trio.sleep(0.6)
    assert len(answers.given) == 2


async def test_a_medium_request_waits_only_if_it_has_to(world: World):
    assert not world.journal.must_wait(MEDIUM)
    assert world.journal.must_wait(LARGE)
    await fill(world)
    assert world.journal.must_wait(MEDIUM)
    assert not world.journal.must_wait(SMALL_BODY_BYTES)


async def test_an_fsync_says_nothing_of_how_much_may_gather(answers: Answers, thread: VirtualThread):
    world = World(pending_max=50_000)
    world.store.inline, thread.delay_s = False, 0.5
    world.start(answers.nursery, services=False)
    many = c.PushBatch(queue="q", jobs=[c.JobSpec(data=Raw(b"1"), durable=True)] * GATHER_JOBS_MIN)
    await world.core.execute(many)
    world.core.begin(many)
    assert not world.journal.must_wait(MEDIUM)
    await trio.sleep(1)
    await world.core.execute(c.PushBatch(queue="q", jobs=[c.JobSpec(data=Raw(b"1"))] * GATHER_JOBS_MIN))
    world.core.begin(many)
    assert world.journal.must_wait(MEDIUM)


async def test_a_turn_that_does_not_come_is_refused_and_nothing_was_changed(world: World):
    await fill(world)
    before = len(world.engine.jobs)
    begun = trio.current_time()
    with pytest.raises(Refused, match="overloaded") as refused:
        await turn(world, LARGE)
    assert (refused.value.status, refused.value.retry_after) == (503, 1)
    assert trio.current_time() - begun == pytest.approx(TURN_S)
    assert len(world.engine.jobs) == before


async def test_who_waits_while_the_disk_fails_gets_an_error(nursery: trio.Nursery):
    world = World([Fault.REFUSED] * 100)
    await fill(world)
    world.start(nursery, services=False)
    await wait_all_tasks_blocked()
    with pytest.raises(Refused, match="Storage"):
        await turn(world, LARGE)
    assert trio.current_time() == 0  # at once


@pytest.mark.parametrize("how", ["retry", "ack"])
async def test_payloads_that_a_small_request_brings_gather_too(world: World, how: str):
    """Dead letters that wait again, and the next run of a series, are written whole."""
    repeat = c.Repeat(every=60_000) if how == "ack" else None
    world.core.begin(c.Push(queue="q", data=Raw(b'"%s"' % (b"x" * 2 * MIB)), max_attempts=1, repeat=repeat))
    [job_id] = world.engine.jobs
    world.core.begin(c.Pull(queue="q"))
    if how == "retry":
        world.core.begin(c.Fail(id=job_id))
    await world.journal.flush()
    world.journal._pressure = Pressure(50_000, 64 * MIB)  # which knows nothing of the disk
    assert not world.journal.must_wait(MEDIUM)
    world.core.begin(c.Ack(id=job_id) if how == "ack" else c.RetryDlq(queue="q"), size=20)
    assert world.journal.must_wait(MEDIUM)
