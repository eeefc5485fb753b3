"""Acks, failures and heartbeats of many jobs take several steps: each counts for itself."""

from itertools import pairwise

import pytest
import trio
from msgspec import Raw

from bunqueue_trio.config import INLINE_ROWS_MAX, LARGE_BODY_BYTES, MIB, WRITTEN_S
from bunqueue_trio.engine.commands.report import DEATH_ACKS, FAILURE_ACKS
from bunqueue_trio.engine.job import State
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.runtime import core
from tests.runtime.bulk_steps import SLICE, begin, bulk, ids_of
from tests.runtime.bulk_steps import small_slices as small_slices
from tests.runtime.runtime_world import Answers, World, settled
from tests.storage.faulty import Fault

# --- acks -----------------------------------------------------------------------------------------


async def taken(world: World, n: int = 10) -> tuple[list[str], list[str]]:
    await world.core.execute(bulk(n))
    reply = await world.core.execute(c.PullBatch(queue="q", count=n))
    assert isinstance(reply, r.PullBatchReply)
    return [job.id for job in reply.jobs], reply.tokens


async def test_acks_of_many_are_done_in_steps_and_answered_when_all_are_committed(nursery: trio.Nursery):
    world = World()
    world.start(nursery)
    ids, tokens = await taken(world)
    begun = world.core.begin(c.AckBatch(ids=ids, tokens=tokens, results=[Raw(b"1")] * 10), sliced=True)
    assert begun.bulk is not None
    assert [world.state(job_id) for job_id in ids].count(State.COMPLETED) == SLICE
    assert await world.core.finish(begun) == r.OK
    assert not world.journal.dirty
    assert {world.state(job_id) for job_id in ids} == {State.COMPLETED}


async def test_a_few_failures_that_may_be_deaths_are_done_in_steps(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(core, "BULK_SLICE", 3 * (DEATH_ACKS + FAILURE_ACKS))
    begun = world.core.begin(await dying(world), sliced=True)
    assert begun.bulk is not None
    assert len(begun.done or ()) == 3


async def dying(world: World) -> c.FailBatch:
    for _ in range(10):
        world.core.begin(c.Push(queue="q", data=Raw(b"1")))
    assert await world.journal.flush() is None
    reply = world.core.begin(c.PullBatch(queue="q", count=10)).reply
    assert isinstance(reply, r.PullBatchReply)
    return c.FailBatch(failures=[c.Failure(id=job.id, error=f"E {job.id}", unrecoverable=True) for job in reply.jobs])


async def test_a_disk_that_refuses_the_last_acks_refuses_the_answer(nursery: trio.Nursery):
    world = World()
    world.start(nursery)
    ids, tokens = await taken(world)
    begun = world.core.begin(c.AckBatch(ids=ids, tokens=tokens), sliced=True)
    await settled()
    assert not world.journal.dirty
    world.store.commits = iter([Fault.REFUSED] * 1000)
    with pytest.raises(Refused) as refused:
        await world.core.finish(begun)
    assert refused.value.code == "not-committed"


async def test_one_that_has_changed_nothing_is_not_in_the_way_of_others(nursery: trio.Nursery):
    """No commit follows it, which would forget how large it was."""
    world = World()
    world.start(nursery)
    nobody = [f"nobody{n}" for n in range(10)]
    begun = world.core.begin(c.AckBatch(ids=nobody), size=63 * MIB, sliced=True)
    await world.core.finish(begun)
    await settled()
    world.journal.check(MIB)
    assert not world.journal.must_wait(LARGE_BODY_BYTES)


async def test_nobody_waits_for_all_the_acks_of_others(nursery: trio.Nursery, answers: Answers):
    world = answers.world = World()
    world.start(nursery)
    ids, tokens = await taken(world)
    begun = world.core.begin(c.AckBatch(ids=ids, tokens=tokens), sliced=True)
    await answers.ask("other", world.push, "other")
    assert "other" in answers
    assert begun.bulk is not None
    assert [world.state(job_id) for job_id in ids].count(State.COMPLETED) == SLICE
    assert await world.core.finish(begun) == r.OK


async def test_acks_are_done_in_steps_beside_a_push_that_is_half_in(nursery: trio.Nursery):
    world = World()
    world.start(nursery)
    ids, _ = await taken(world)
    pushed = begin(world, bulk(10))
    acked = world.core.begin(c.AckBatch(ids=ids), sliced=True)
    assert [world.state(job_id) for job_id in ids].count(State.COMPLETED) == SLICE
    assert len(await ids_of(world, pushed)) == 10
    assert await world.core.finish(acked) == r.OK


async def test_of_all_acks_that_are_half_done_some_go_on_in_a_round(nursery: trio.Nursery):
    world = World()
    world.start(nursery)
    ids, _ = await taken(world, 100)
    for n in range(0, 100, 25):
        nursery.start_soon(world.core.finish, world.core.begin(c.AckBatch(ids=ids[n : n + 25]), sliced=True))
    done = [[world.state(job_id) for job_id in ids].count(State.COMPLETED)]
    while done[-1] < 100:
        await trio.lowlevel.checkpoint()
        done.append([world.state(job_id) for job_id in ids].count(State.COMPLETED))
    assert done[0] == 4 * SLICE
    # Two rounds may have a part of theirs between two looks; without turns each of the four has one in each round.
    assert max(later - earlier for earlier, later in pairwise(done)) <= 2 * SLICE


async def test_acks_wait_for_room_in_a_batch_that_gathers_while_one_is_written(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
):
    world = World(away_s=0.05)
    world.start(nursery)
    ids, _ = await taken(world, 40)
    monkeypatch.setattr("bunqueue_trio.engine.engine.GATHER_JOBS_MAX", 2 * SLICE)
    sizes: list[int] = []
    world.journal.on_commit.append(lambda batch, _: sizes.append(len(batch.jobs)))
    assert await world.core.execute(c.AckBatch(ids=ids)) == r.OK
    assert sum(sizes) == 40
    assert max(sizes) <= 2 * SLICE


async def test_large_work_rests_while_the_rows_of_a_large_batch_are_written(nursery: trio.Nursery, answers: Answers):
    half, small, large = World().journal.half, trio.Event(), trio.Event()
    half.note_written(small, INLINE_ROWS_MAX)
    await half.turn()
    half.note_written(large, INLINE_ROWS_MAX + 1)
    await answers.ask("turn", half.turn)
    await settled()
    assert "turn" not in answers
    large.set()
    await settled()
    assert "turn" in answers


async def test_who_has_ended_leaves_memory_in_steps_between_two_batches(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bunqueue_trio.engine.engine.FORGET_SLICE", 40)
    world = World()
    world.start(nursery)
    n = INLINE_ROWS_MAX + 1
    ids, _ = await taken(world, n)
    left: list[int] = []

    async def look() -> None:
        while not left or left[-1]:
            await trio.lowlevel.checkpoint()
            left.append(len(world.engine.jobs))

    nursery.start_soon(look)
    await world.core.finish(world.core.begin(c.AckBatch(ids=ids)))
    await settled()
    # Two steps may lie between two looks.
    assert {0} < set(left) - {n} <= {89, 49, 9, 0}


async def test_large_work_does_not_wait_for_a_slow_disk(nursery: trio.Nursery):
    half, begun = World().journal.half, trio.current_time()
    half.note_written(trio.Event(), INLINE_ROWS_MAX + 1)
    await half.turn()
    assert trio.current_time() - begun == pytest.approx(WRITTEN_S)


async def test_acks_of_nothing_wait_for_nothing(nursery: trio.Nursery):
    world = World()
    world.start(nursery)
    nobody = [f"n-{n}" for n in range(10)]
    reply = await world.core.execute(c.AckBatch(ids=nobody))
    assert reply == r.DataReply(data={"ignoredIds": nobody})
    assert not world.journal.half.is_there


async def test_an_id_that_is_named_twice_is_acked_once_though_steps_lie_between(nursery: trio.Nursery):
    world = World()
    world.start(nursery)
    ids, tokens = await taken(world)
    twice = c.AckBatch(ids=[*ids, *ids], tokens=[*["old"] * 10, *tokens])
    assert await world.core.execute(twice) == r.OK
    assert {world.state(job_id) for job_id in ids} == {State.COMPLETED}


async def test_acks_whose_lists_do_not_fit_change_nothing(nursery: trio.Nursery):
    world = World()
    world.start(nursery)
    ids, tokens = await taken(world)
    with pytest.raises(Refused, match="tokens must be as long as ids"):
        world.core.begin(c.AckBatch(ids=ids, tokens=tokens[:-1]), sliced=True)
    assert not world.journal.half.is_there
    assert {world.state(job_id) for job_id in ids} == {State.ACTIVE}


# --- failures -------------------------------------------------------------------------------------


async def test_failures_of_many_are_done_in_steps(nursery: trio.Nursery):
    """One is more work than an ack, so fewer of them make a step."""
    world = World()
    world.start(nursery)
    ids, tokens = await taken(world)
    failures = [
        c.Failure(id=job_id, token=token, unrecoverable=True) for job_id, token in zip(ids, tokens, strict=True)
    ]
    begun = world.core.begin(c.FailBatch(failures=failures), sliced=True)
    assert begun.bulk is not None
    assert [world.state(job_id) for job_id in ids].count(State.FAILED) == 1
    assert await world.core.finish(begun) == r.FailBatchReply(data=r.Failed(run_at=[None] * 10))
    assert not world.journal.dirty
    assert {world.state(job_id) for job_id in ids} == {State.FAILED}


async def test_a_few_failures_are_one_step(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(core, "BULK_SLICE", 10 * FAILURE_ACKS)
    world = World()
    world.start(nursery)
    ids, _ = await taken(world)
    begun = world.core.begin(c.FailBatch(failures=[c.Failure(id=job_id) for job_id in ids]), sliced=True)
    assert begun.bulk is None
    assert {world.state(job_id) for job_id in ids} == {State.DELAYED}


async def test_failures_that_say_what_cannot_be_change_nothing(nursery: trio.Nursery):
    world = World()
    world.start(nursery)
    ids, _ = await taken(world)
    failures = [c.Failure(id=job_id) for job_id in ids]
    failures[9] = c.Failure(id=ids[9], unrecoverable=True, retry_in=0)
    with pytest.raises(Refused, match=r"failures\[9\]: unrecoverable and retryIn exclude each other"):
        world.core.begin(c.FailBatch(failures=failures), sliced=True)
    assert not world.journal.half.is_there
    assert {world.state(job_id) for job_id in ids} == {State.ACTIVE}


# --- heartbeats -----------------------------------------------------------------------------------


async def test_heartbeats_of_many_are_done_in_steps_and_what_ends_meanwhile_is_lost(nursery: trio.Nursery):
    world = World()
    world.start(nursery)
    ids, tokens = await taken(world)
    begun = world.core.begin(c.HeartbeatBatch(ids=ids, tokens=tokens), sliced=True)
    assert begun.bulk is not None
    world.core.begin(c.Ack(id=ids[-1], token=tokens[-1]))
    reply = await world.core.finish(begun)
    assert reply == r.DataReply(data={"ok": True, "count": 9, "lostIds": [ids[-1]]})
    assert not world.journal.half.is_there
    with pytest.raises(Refused, match="tokens must be as long as ids"):
        world.core.begin(c.HeartbeatBatch(ids=ids, tokens=tokens[:-1]), sliced=True)
    assert not world.journal.half.is_there
