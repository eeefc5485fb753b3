"""A bulk command about many jobs takes several steps: refused or done as a whole, and a push on the disk as a whole."""

from functools import partial

import pytest
import trio
from msgspec import Raw

from bunqueue_trio.api.bulk import LargeReader
from bunqueue_trio.config import INLINE_BYTES_MAX
from bunqueue_trio.engine.commands.push import Bulk
from bunqueue_trio.engine.job import State
from bunqueue_trio.errors import INVALID_JSON_BODY, Refused, StoreError
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.codec import decode
from bunqueue_trio.runtime import core, half, journal
from bunqueue_trio.storage import making
from tests.runtime.bulk_steps import SLICE, begin, bulk, ids_of, spec
from tests.runtime.bulk_steps import small_slices as small_slices
from tests.runtime.runtime_world import Answers, VirtualThread, World, settled
from tests.storage.faulty import Crash, Fault


def named(*ids: str, queue: str = "q") -> c.PushBatch:
    return c.PushBatch(queue=queue, jobs=[spec(job_id=job_id) for job_id in ids])


def add_at_once(world: World, begun: core.Begun) -> None:
    """Add what is left of it in this very step."""
    while begun.bulk is not None:
        world.core._add_some(begun)


async def test_others_are_served_between_two_steps(nursery: trio.Nursery):
    world = World()
    world.start(nursery)
    counts: list[int] = []

    async def look() -> None:
        while len(counts) < 20:
            counts.append(len(world.engine.jobs))
            await trio.lowlevel.checkpoint()

    nursery.start_soon(look)
    reply = await world.core.execute(bulk(10))
    assert isinstance(reply, r.PushBatchReply)
    assert reply.ids == [f"id-{n:06}" for n in range(1, 11)]
    assert {6, 9} <= set(counts)
    assert world.published == [("pushed", job_id) for job_id in reply.ids]


async def test_to_look_at_very_many_is_a_step_of_its_own(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(half, "LOOKED_AT", 9)
    world = World()
    world.start(nursery)
    begun = begin(world, bulk(10))
    assert (len(world.engine.jobs), world.journal.half.is_there) == (0, True)
    assert len(await ids_of(world, begun)) == len(world.engine.jobs) == 10


@pytest.mark.parametrize("n", [1, SLICE])
async def test_a_small_one_is_one_step(world: World, n: int):
    begun = world.core.begin(bulk(n), sliced=True)
    assert begun.bulk is None
    assert len(world.engine.jobs) == n


async def test_all_of_it_is_in_one_commit(nursery: trio.Nursery):
    world = World()
    world.start(nursery)
    begun = begin(world, bulk(10))
    for _ in range(20):
        await trio.lowlevel.checkpoint()
    assert (len(world.engine.jobs), world.stored(), world.journal.commits) == (SLICE, {}, 0)
    ids = await ids_of(world, begun)
    assert list(world.stored()) == ids
    assert world.journal.commits == 1


async def test_its_rows_are_made_with_its_parts(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch):
    """Ten thousand of them, in the step that takes the batch, would hold everybody else up."""
    monkeypatch.setattr(making, "MADE_AT_ONCE", SLICE)
    monkeypatch.setattr(journal, "MADE_AT_ONCE", SLICE)
    world = World()
    left: list[int] = []
    take = world.journal._take

    def noting():
        left.append(sum(made is None for made in world.engine.changed.values()))
        return take()

    monkeypatch.setattr(world.journal, "_take", noting)
    world.start(nursery)
    await world.core.execute(bulk(10 * SLICE))
    assert left
    assert max(left) <= SLICE


async def test_a_batch_of_many_changes_is_made_in_steps(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(making, "MADE_AT_ONCE", 2)
    monkeypatch.setattr(journal, "MADE_WHEN_TAKEN", 4)
    world = World()
    made: list[int] = []
    row = making._row

    def noting(*args, **named):
        made.append(1)
        return row(*args, **named)

    monkeypatch.setattr(making, "_row", noting)
    for _ in range(10):
        world.core.begin(c.Push(queue="q", data=Raw(b"1")))
    world.start(nursery)
    await settled()
    assert len(world.stored()) == 10
    assert len(made) == 10


async def test_who_changes_something_alone_commits_no_half_of_it(world: World):
    begun = begin(world, bulk(10))
    assert [world.journal.commit_alone() for _ in range(3)] == [False] * 3
    assert world.stored() == {}
    add_at_once(world, begun)
    assert world.journal.half.is_there is False


async def test_what_others_do_meanwhile_is_in_the_same_commit(nursery: trio.Nursery, answers: Answers):
    world = answers.world = World()
    world.start(nursery)
    begun = begin(world, bulk(10))
    await answers.ask("other", world.push, "other")
    assert "other" not in answers
    await ids_of(world, begun)
    await settled()
    assert "other" in answers
    assert world.journal.commits == 1


async def test_who_waits_for_jobs_gets_them_when_all_are_committed(nursery: trio.Nursery, answers: Answers):
    world = answers.world = World()
    world.start(nursery)
    await answers.ask("pull", world.pull, wait_ms=1000)
    begun = begin(world, bulk(10))
    await settled()
    assert "pull" not in answers
    (first, *_) = await ids_of(world, begun)
    await settled()
    assert answers["pull"] == first


async def test_one_bad_job_refuses_all_before_any_is_in(world: World):
    command = bulk(10)
    command.jobs[-1] = spec(depends_on=["nobody"])
    with pytest.raises(Refused, match=r"^jobs\[9\]: Dependency job not found: nobody$"):
        world.core.begin(command, sliced=True)
    assert (dict(world.engine.jobs), world.journal.gathering, world.journal.half.is_there) == ({}, False, False)


async def test_who_has_gone_leaves_all_of_it(nursery: trio.Nursery):
    world = World()
    world.start(nursery)
    with trio.CancelScope() as scope:
        scope.cancel()
        await world.core.execute(bulk(10))
    assert scope.cancelled_caught
    await settled()
    assert len(world.stored()) == 10


async def test_a_disk_that_refuses_it_at_first_takes_it_whole(nursery: trio.Nursery):
    world = World([Fault.REFUSED])
    world.start(nursery)
    await world.core.execute(bulk(10))
    assert len(world.stored()) == 10


async def test_an_fsync_that_one_job_wants_is_of_all(nursery: trio.Nursery):
    world = World()
    world.start(nursery)
    command = bulk(10)
    command.jobs[-1] = spec(durable=True)
    await world.core.execute(command)
    assert world.journal.durable_commits == world.journal.commits == 1


async def test_a_second_one_meanwhile_is_done_in_its_step(nursery: trio.Nursery):
    """Its carrier waits its turn, for two seconds at most; else two of them could hold the commit for ever."""
    world = World()
    world.start(nursery)
    first = begin(world, bulk(10))
    assert world.journal.must_wait(5000)
    assert not world.journal.must_wait(1000, small=0)
    second = world.core.begin(bulk(10), sliced=True)
    assert second.bulk is None
    await ids_of(world, first)
    await ids_of(world, second)
    assert not world.journal.must_wait(5000)
    assert world.journal.commits == 1


async def test_a_large_request_waits_for_its_end(nursery: trio.Nursery, answers: Answers):
    world = answers.world = World()
    begun = begin(world, bulk(10))
    await answers.ask("turn", world.journal.wait_turn)
    assert "turn" not in answers
    add_at_once(world, begun)
    await settled()
    assert "turn" not in answers
    await world.journal.flush()
    await settled()
    assert "turn" in answers
    assert len(world.engine.jobs) == 10


async def test_a_large_push_that_is_read_meanwhile_waits_for_its_end(nursery: trio.Nursery, answers: Answers):
    """Its turn had come, and it was read in parts, beside the steps of the other one."""
    world = answers.world = World()
    begun = begin(world, bulk(10))
    read, text = partial(decode, c.PushBatch, queue="q"), b'{"jobs":[{"data":1},{"data":2}]}'
    reading = partial(LargeReader(world.journal).read, c.PushBatch, text, read, INVALID_JSON_BODY)
    await answers.ask("push", reading, fills=True)
    assert "push" not in answers
    add_at_once(world, begun)
    await world.journal.flush()
    await settled()
    assert len(answers["push"].command.jobs) == 2


async def test_small_ones_that_gather_are_not_to_wait_for_a_large_one_that_comes(
    nursery: trio.Nursery, answers: Answers
):
    """They go to the disk before it; those that come meanwhile, and what the disk refuses, are not waited for."""
    world = answers.world = World()
    small = world.core.begin(c.Push(queue="q", data=Raw(b"1")))
    await answers.ask("turn", world.journal.wait_turn)
    await answers.ask("small", world.core.finish, small)
    assert "turn" not in answers
    batch = world.journal._writing = world.journal._take()
    later = world.core.begin(c.Push(queue="q", data=Raw(b"1")))
    await settled()
    assert "turn" in answers
    assert "small" not in answers
    await world.journal.flush()
    await settled()
    assert "small" in answers
    assert later.epoch > batch[0].epoch
    await answers.ask("next turn", world.journal.wait_turn)
    world.journal.note_failure(StoreError("disk is full"))
    await settled()
    assert "next turn" in answers


async def test_an_id_in_it_is_taken_from_the_first_step_on(world: World):
    """Else it would be refused when half of it is in."""
    begun = begin(world, named("a", "b", "c", "d", "e"))
    with pytest.raises(Refused, match="in use by a job of another queue: e"):
        world.core.begin(c.Push(queue="other", data=Raw(b"1"), job_id="e"))
    assert world.core.begin(c.Push(queue="q", data=Raw(b"1"), job_id="e")).reply == r.PushReply(id="e")
    assert world.core.begin(c.Push(queue="other", data=Raw(b"1"), job_id="f")).reply == r.PushReply(id="f")
    add_at_once(world, begun)
    assert begun.reply == r.PushBatchReply(ids=["a", "b", "c", "d", "e"])
    assert [event.event_type for event in world.engine.events if event.job_id == "e"] == ["pushed", "duplicated"]
    world.core.begin(c.Cancel(id="e"))
    world.core.begin(c.Push(queue="other", data=Raw(b"1"), job_id="e"))


async def test_a_unique_key_that_others_take_meanwhile_is_theirs(world: World):
    command = bulk(10)
    command.jobs[-1] = spec(unique_key="k")
    begun = begin(world, command)
    other = world.core.begin(c.Push(queue="q", data=Raw(b"1"), unique_key="k")).reply
    add_at_once(world, begun)
    assert isinstance(begun.reply, r.PushBatchReply)
    assert isinstance(other, r.PushReply)
    assert begun.reply.ids[-1] == other.id


async def test_a_batch_that_is_taken_when_the_last_step_is_done_is_written_and_not_forgotten(
    nursery: trio.Nursery, thread: VirtualThread
):
    """The flusher has waited for that step; before it runs, another step takes a batch, and leaves it since it is large."""
    world = World()
    world.start(nursery)
    world.store.inline = False
    bulk_of_old_ones = begin(world, bulk(10))
    await settled()
    assert world.journal.half.is_there
    with world.core.turns.many:
        add_at_once(world, bulk_of_old_ones)
        large = world.core.begin(c.Push(queue="q", job_id="large", data=c.Raw(b'"%s"' % (b"x" * INLINE_BYTES_MAX))))
    later = world.core.begin(c.Push(queue="q", job_id="later", data=c.Raw(b"1")))
    with trio.fail_after(10):
        for begun in (bulk_of_old_ones, large, later):
            await world.core.finish(begun)
    assert {"large", "later"} <= world.stored().keys()
    assert len(world.stored()) == 12


async def test_trouble_of_a_commit_is_that_of_the_flusher_that_waited_for_the_last_step():
    """It is no commit to try again."""
    world = World([Fault.CRASH_BEFORE])

    async def live() -> None:
        async with trio.open_nursery() as nursery:
            world.start(nursery)
            begun = begin(world, bulk(10))
            await settled()
            with world.core.turns.many:
                add_at_once(world, begun)
            await trio.sleep(60)

    with pytest.RaisesGroup(Crash, flatten_subgroups=True):
        await live()


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "removed"])
async def test_a_dependency_whose_end_is_being_written_may_be_forgotten_meanwhile(
    nursery: trio.Nursery, thread: VirtualThread, keep: bool
):
    """It is in memory when the push begins, and no more when its dependent is added."""
    world = World()
    world.start(nursery)
    await world.push(job_id="a", remove_on_complete=not keep)
    await world.pull()
    world.store.inline, world.journal._pressure.last_s, thread.delay_s = False, 1.0, 0.5
    world.core.begin(c.Ack(id="a"))
    await settled()
    assert "a" in {job.id for job in world.journal.writing}
    command = bulk(10)
    command.jobs[-1] = spec(depends_on=["a"], job_id="b")
    begun = begin(world, command)
    await trio.sleep(0.6)
    assert "a" not in world.engine.jobs
    await ids_of(world, begun)
    assert world.engine.jobs["b"].state is State.WAITING


async def test_a_dependency_that_is_cancelled_meanwhile_ends_its_dependent(nursery: trio.Nursery):
    world = World()
    world.start(nursery)
    await world.push(job_id="a")
    command = bulk(10)
    command.jobs[-1] = spec(depends_on=["a"], job_id="b")
    begun = begin(world, command)
    world.core.begin(c.Cancel(id="a"))
    await ids_of(world, begun)
    assert world.state("b") is State.FAILED


async def test_a_dependency_that_completes_meanwhile_has_completed(nursery: trio.Nursery):
    world = World()
    world.start(nursery)
    await world.push(job_id="a", priority=1)
    await world.pull()
    command = bulk(10)
    command.jobs[-1] = spec(depends_on=["a"], job_id="b")
    begun = begin(world, command)
    world.core.begin(c.Ack(id="a"))
    await ids_of(world, begun)
    assert world.state("b") is State.WAITING


async def test_a_broken_invariant_in_the_middle_ends_the_server_and_writes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    begun = begin(world, bulk(10))

    def add(*_: object) -> bool:
        raise AssertionError("planted")

    monkeypatch.setattr(Bulk, "add", add)
    with pytest.raises(AssertionError, match="planted"):
        await world.core.finish(begun)
    assert not world.journal.half.is_there
    with pytest.raises(AssertionError, match="planted"):
        await world.journal.flush()


async def test_the_bytes_of_all_of_it_are_counted_when_it_begins(world: World):
    begin(world, bulk(10))
    assert world.journal._bytes == 10


async def test_it_works_where_the_store_is_a_network_away(nursery: trio.Nursery):
    world = World(away_s=0.01)
    world.start(nursery)
    await world.push(job_id="a")
    await world.pull()
    await world.ack("a")
    command = bulk(10)
    command.jobs[-1] = spec(depends_on=["a"], job_id="b")
    reply = await world.core.execute(command)
    assert isinstance(reply, r.PushBatchReply)
    assert world.state("b") is State.WAITING
    assert world.journal.commits == 4


# --- several commands in one turn -----------------------------------------------------------------


async def test_what_a_turn_brings_is_done_in_time(nursery: trio.Nursery, answers: Answers):
    world = answers.world = World()
    world.start(nursery)
    await answers.ask("pull", world.pull, wait_ms=60_000)
    begun_at = world.now_ms()
    with world.core.turns.many:
        world.core.begin(c.Push(queue="q", data=Raw(b"1"), job_id="later", delay=1000))
        world.core.begin(c.Push(queue="other", data=Raw(b"1")))
    await trio.sleep(2)
    assert answers["pull"] == "later"
    assert answers.at_ms["pull"] == begun_at + 1000


async def test_a_durable_push_makes_the_commit_of_its_turn_durable(nursery: trio.Nursery):
    world = World()
    world.start(nursery)
    with world.core.turns.many:
        durable = world.core.begin(c.Push(queue="q", data=Raw(b"1"), durable=True))
        world.core.begin(c.Push(queue="q", data=Raw(b"1")))
    await world.core.finish(durable)
    assert (world.journal.commits, world.journal.durable_commits) == (1, 1)
