"""A command that is done in slices: others are served in between, each slice is committed, and who has gone is done with."""

from typing import Any

import pytest
import trio

from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.runtime import slices
from tests.runtime.runtime_world import Answers, World
from tests.storage.faulty import Fault


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE", 2)


async def filled(nursery: trio.Nursery, n: int = 7) -> World:
    world = World()
    world.start(nursery)
    for _ in range(n):
        await world.push()
    return world


def cancel(**how: object) -> c.ActOnJobs:
    return c.ActOnJobs(filter=c.Filter(queue="q"), action="cancel", **how)  # type: ignore[arg-type]


async def act(world: World, command: c.ActOnJobs) -> r.ActReply:
    reply = await world.core.execute(command)
    assert isinstance(reply, r.ActReply)
    return reply


async def test_all_slices_have_one_answer(nursery: trio.Nursery):
    world = await filled(nursery)
    commits = world.journal.commits
    reply = await act(world, cancel())
    assert (reply.count, reply.scanned, reply.next, len(reply.examples)) == (7, 7, None, 3)
    assert world.journal.commits == commits + 4
    assert list(world.store.inner.load()) == []


async def test_a_limit_is_that_of_all_slices(nursery: trio.Nursery):
    world = await filled(nursery)
    reply = await act(world, cancel(limit=5))
    assert reply.count == 5
    assert reply.next is not None
    assert (await act(world, cancel(after=reply.next))).count == 2


async def test_what_is_refused_counts_over_all_slices(nursery: trio.Nursery):
    world = await filled(nursery, 5)
    for _ in range(3):
        await world.pull()
    reply = await act(world, cancel(limit=4))
    assert (reply.count, reply.refused) == (1, {"is-active": 3})


async def test_others_are_served_in_between(nursery: trio.Nursery, answers: Answers):
    world = await filled(nursery, 20)
    left: list[int] = []

    async def look() -> None:
        while len(world.engine.jobs):
            left.append(len(world.engine.jobs))
            await trio.lowlevel.checkpoint()

    nursery.start_soon(look)
    await act(world, cancel())
    assert len(set(left)) > 5


async def test_who_has_gone_is_done_with_after_its_slice(nursery: trio.Nursery):
    world = await filled(nursery)
    with trio.CancelScope() as scope:
        begun = world.core.begin(cancel())
        scope.cancel()
        await world.core.finish(begun)
    assert scope.cancelled_caught
    await trio.sleep(1)
    assert len(world.engine.jobs) == 5


async def test_a_stop_ends_it_and_the_answer_says_how_far_it_came(nursery: trio.Nursery):
    world = await filled(nursery)
    begun = world.core.begin(cancel())
    assert world.core.stop_poll(begun) is False
    world.core.stop_polls()
    reply = await world.core.finish(begun)
    assert isinstance(reply, r.ActReply)
    assert (reply.count, reply.next is None) == (2, False)


async def test_it_ends_after_enough_looks(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(slices, "LOOKED_MAX", 3)
    world = await filled(nursery)
    reply = await act(world, cancel())
    assert (reply.count, reply.next is None) == (4, False)


async def test_it_ends_where_the_disk_refuses(nursery: trio.Nursery, answers: Answers):
    world = await filled(nursery)
    world.store.commits = iter([Fault.NONE, *[Fault.REFUSED] * 1000])
    begun = world.core.begin(cancel())
    with pytest.raises(Refused):
        await world.core.finish(begun)
    assert len(world.engine.jobs) >= 3


async def test_it_goes_no_further_when_others_could_not_either(nursery: trio.Nursery):
    world = await filled(nursery)
    begun = world.core.begin(c.ActOnJobs(filter=c.Filter(queue="q"), action="cancel"))
    await world.journal.wait_committed(begun.epoch)
    world.journal.failing = "no"
    reply = await world.core.finish(begun)
    assert isinstance(reply, r.ActReply)
    assert reply.count == 2
    world.journal.failing = None


def test_the_next_slice_is_of_what_is_left():
    command = cancel(limit=5)
    reply = r.ActReply(count=1, refused={"a": 1, "b": 2}, scanned=9, examples=[], next="x")
    following: Any = slices.rest_of(command, slices.first_slice(command), reply)
    assert (following.limit, following.after, command.after) == (1, "x", None)
    reply.count = 2
    assert slices.rest_of(command, slices.first_slice(command), reply) is None
    both: Any = slices.joined(reply, r.ActReply(count=3, refused={"a": 1, "c": 1}, scanned=1, examples=[], next=None))
    assert (both.count, both.refused, both.scanned, both.next) == (5, {"a": 2, "b": 2, "c": 1}, 10, None)


async def test_a_rate_is_kept_and_a_long_act_is_answered_in_between(nursery: trio.Nursery):
    world = await filled(nursery, 20)
    begun = trio.current_time()
    reply = await act(world, cancel(rate=1, limit=3))
    assert (reply.count, trio.current_time() - begun) == (3, 2)
    begun = trio.current_time()
    reply = await act(world, cancel(rate=2, after=reply.next))
    assert (reply.count, trio.current_time() - begun) == (10, slices.TOLD_S)
    assert reply.next is not None
    begun = trio.current_time()
    reply = await act(world, cancel(rate=2, after=reply.next))
    assert (reply.count, reply.next, trio.current_time() - begun) == (7, None, 3)
    assert (await act(world, cancel(rate=1, dry_run=True))).count == 0


async def test_what_is_pushed_while_an_act_goes_on_is_left_alone(nursery: trio.Nursery):
    world = await filled(nursery, 4)
    came: list[str] = []

    async def produce() -> None:
        while True:
            await trio.sleep(0.3)
            came.append(await world.push())

    with trio.CancelScope() as producing:
        nursery.start_soon(produce)
        reply = await act(world, cancel(rate=2, limit=1000))
        producing.cancel()
    assert (reply.count, reply.next) == (4, None)
    assert came
    assert all(job_id in world.engine.jobs for job_id in came)


@pytest.mark.parametrize(("away_s", "takes_s"), [(0.01, 3 * 0.02 + 2 * 0.08), (1, 3 * 2 + 2 * slices.REST_MAX_S)])
async def test_between_two_slices_others_have_four_times_as_long_but_not_for_ever(
    nursery: trio.Nursery, away_s: float, takes_s: float
):
    """Beside a store that takes twice as long as it is away: three slices, and two rests."""
    world = World(away_s=away_s)
    world.start(nursery)
    for _ in range(6):
        await world.push()
    begun = trio.current_time()
    assert (await act(world, cancel())).count == 6
    assert trio.current_time() - begun == pytest.approx(takes_s)


async def test_an_act_is_answered_in_between_whatever_makes_it_long(nursery: trio.Nursery):
    world = World(away_s=1)
    world.start(nursery)
    for _ in range(10):
        await world.push()
    reply = await act(world, cancel())
    assert (reply.count, reply.next is None) == (6, False)
    assert (await act(world, cancel(after=reply.next))).count == 4


async def test_a_stop_does_not_wait_for_a_slow_act(nursery: trio.Nursery):
    world = await filled(nursery)
    replies: list[r.ActReply] = []

    async def slow() -> None:
        replies.append(await act(world, cancel(rate=1)))

    nursery.start_soon(slow)
    await trio.sleep(1.5)
    world.core.stopping = True
    await trio.sleep(0.6)
    assert [(reply.count, reply.next is None) for reply in replies] == [(2, False)]


async def test_a_retry_of_many_is_refused_while_only_the_last_room_of_the_disk_is_left(running: World):
    """It brings jobs, as a push does; what empties the queue goes on."""
    await running.core.execute(c.Discard(id=await running.push()))
    running.journal.note_room(nearly_full=True)
    retry = c.ActOnJobs(filter=c.Filter(queue="q"), action="retry")
    with pytest.raises(Refused, match="nearly full"):
        await running.core.execute(retry)
    reply = await running.core.execute(c.ActOnJobs(filter=c.Filter(queue="q", state="failed"), action="purge"))
    assert isinstance(reply, r.ActReply)
    assert reply.count == 1
