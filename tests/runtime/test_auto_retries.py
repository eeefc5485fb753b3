"""Dead letters that wait again by themselves, exactly at their times, a bounded number a second, and as long as new work is welcome."""

from typing import Any

import pytest
import trio

from bunqueue_trio.config import AUTO_RETRY_SLICE, Settings
from bunqueue_trio.engine import auto_retrying
from bunqueue_trio.engine.job import State
from bunqueue_trio.errors import Refused, StoreDamaged, StoreError
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.runtime import services
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.lookups import AwaitingCore
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.services import AutoRetrier, looped
from bunqueue_trio.runtime.tree import serve
from bunqueue_trio.storage.memory import MemoryStore
from tests.runtime.runtime_world import Answers, World, settled
from tests.storage.distant import DistantStore
from tests.storage.faulty import Fault


async def begin(world: World, nursery: trio.Nursery, **how: Any) -> None:
    nursery.start_soon(looped(AutoRetrier(world.core, world.engine, world.store)))
    said = {"auto_retry": True, "auto_retry_interval": 1000} | how
    await world.core.execute(c.SetDlqConfig(queue="q", **said))


async def dead(world: World, n: int = 1) -> list[str]:
    """Let this many die at once."""
    ids = [await world.push(max_attempts=1) for _ in range(n)]
    reply = await world.core.execute(c.PullBatch(queue="q", count=n))
    assert isinstance(reply, r.PullBatchReply)
    await world.core.execute(c.FailBatch(failures=[c.Failure(id=job_id) for job_id in ids]))
    return ids


def waiting(world: World) -> int:
    return world.engine.counts[State.WAITING]


async def test_each_waits_again_exactly_at_its_time(running: World, nursery: trio.Nursery):
    """Who waits for it has it in that ms: three deaths, each some ms after the one before."""
    await begin(running, nursery)
    due = []
    for _ in range(3):
        [_] = await dead(running)
        due.append(running.now_ms() + 1000)
        await trio.sleep(0.017)
    for at in due:
        assert await running.pull(wait_ms=5000) is not None
        assert running.now_ms() == at


async def test_one_that_dies_again_comes_back_so_often(running: World, nursery: trio.Nursery):
    await begin(running, nursery, max_auto_retries=2)
    [job_id] = await dead(running)
    for n in (1, 2):
        assert await running.pull(wait_ms=5000) == job_id
        assert running.now_ms() == n * 1000
        await running.fail(job_id)
    assert await running.pull(wait_ms=100_000) is None
    assert running.state(job_id) is State.FAILED
    assert running.published.count(("pushed", job_id)) == 3


@pytest.mark.thorough
async def test_a_bounded_number_a_second_over_all_queues(running: World, nursery: trio.Nursery):
    await begin(running, nursery)
    for _ in range(4):
        await dead(running, 500)
    begun = running.now_ms()
    await trio.sleep(1)
    told = []
    for _ in range(5):
        told.append(waiting(running))
        await trio.sleep(0.5)
    assert running.now_ms() == begun + 3500
    assert told == [pytest.approx(min(2000, 500 * n), abs=2 * AUTO_RETRY_SLICE) for n in range(5)]
    assert told[-1] == 2000


async def test_no_step_does_more_than_a_few(running: World, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch):
    seen: list[int] = []
    retried = running.engine.totals

    def slice_(*args: Any) -> None:
        before = retried.auto_retried
        auto_retrying.auto_slice(*args)
        seen.append(retried.auto_retried - before)

    monkeypatch.setattr(services, "auto_slice", slice_)
    await begin(running, nursery)
    await dead(running, 300)
    await trio.sleep(3)
    assert sum(seen) == 300
    assert max(seen) == AUTO_RETRY_SLICE


async def test_nothing_happens_between_two_deaths(
    running: World, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
):
    """Dead letters that stay are not looked at again and again."""
    looks: list[int] = []
    records = running.store.records

    def count(*args: Any, **how: Any) -> Any:
        looks.append(running.now_ms())
        return records(*args, **how)

    monkeypatch.setattr(running.store, "records", count)
    await begin(running, nursery, max_auto_retries=0)
    await dead(running, 100)
    await trio.sleep(10**6)
    assert len(looks) <= 4 + 100 // AUTO_RETRY_SLICE


async def test_it_waits_while_the_disk_fails_and_has_no_room(running: World, nursery: trio.Nursery):
    await begin(running, nursery)
    [job_id] = await dead(running)
    running.journal.note_failure(StoreError("full"))
    await trio.sleep(5)
    assert running.state(job_id) is State.FAILED
    running.journal.note_answer()
    running.journal.note_room(nearly_full=True)
    await trio.sleep(5)
    assert running.state(job_id) is State.FAILED
    running.journal.note_room(nearly_full=False)
    await trio.sleep(1)
    assert running.state(job_id) is State.WAITING


async def test_it_waits_while_the_records_cannot_be_read(running: World, nursery: trio.Nursery):
    await begin(running, nursery)
    [job_id] = await dead(running)
    running.store.blind = True
    await trio.sleep(5)
    running.store.blind = False
    assert running.state(job_id) is State.FAILED
    await trio.sleep(2)
    assert running.state(job_id) is State.WAITING


async def test_a_queue_whose_records_cannot_be_read_holds_up_no_other(
    running: World, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
):
    records = running.store.records

    def read(queue: str, *args: Any, **how: Any) -> Any:
        if queue == "damaged":
            raise StoreDamaged("malformed")
        return records(queue, *args, **how)

    await begin(running, nursery)
    await running.core.execute(c.SetDlqConfig(queue="damaged", auto_retry=True, auto_retry_interval=1000))
    first = await running.push("damaged", max_attempts=1)
    assert await running.pull("damaged") == first
    await running.fail(first)
    monkeypatch.setattr(running.store, "records", read)
    [job_id] = await dead(running)
    await trio.sleep(4)
    assert (running.state(job_id), running.state(first)) == (State.WAITING, State.FAILED)
    monkeypatch.undo()
    await trio.sleep(2)
    assert running.state(first) is State.WAITING


async def test_it_does_nothing_while_the_server_stops(running: World, nursery: trio.Nursery):
    await begin(running, nursery)
    [job_id] = await dead(running)
    running.core.stop_polls()
    await trio.sleep(100)
    assert running.state(job_id) is State.FAILED


async def test_a_death_whose_commit_is_late_is_not_forgotten(nursery: trio.Nursery):
    """It is due before its record is there."""
    world = World([Fault.NONE] * 2 + [Fault.REFUSED] * 30)
    world.start(nursery)
    await begin(world, nursery, auto_retry_interval=0)
    job_id = await world.push(max_attempts=1)
    assert await world.pull() == job_id
    await world.execute_refused(c.Fail(id=job_id, error="boom"))
    await trio.sleep(60)
    assert world.state(job_id) is State.WAITING
    assert world.engine.jobs[job_id].noted().auto_retries == 1


async def test_one_of_a_paused_queue_waits_as_any_other(running: World, nursery: trio.Nursery):
    await begin(running, nursery)
    [job_id] = await dead(running)
    await running.core.execute(c.Pause(queue="q"))
    assert await running.pull(wait_ms=5000) is None
    assert running.state(job_id) is State.WAITING
    await running.core.execute(c.Resume(queue="q"))
    assert await running.pull() == job_id


async def test_a_server_goes_on_with_them_where_the_last_one_was_killed():
    store = MemoryStore()
    ids: list[str] = []
    for life in range(4):
        async with trio.open_nursery() as nursery:
            server: Server = await nursery.start(serve, Server(Settings(), store, Clock()), [])
            execute = server.core.execute
            if life == 0:
                await execute(c.SetDlqConfig(queue="q", auto_retry=True, auto_retry_interval=10_000))
                for _ in range(50):
                    push = await execute(c.Push(queue="q", data=c.Raw(b"1"), max_attempts=1))
                    assert isinstance(push, r.PushReply)
                    ids.append(push.id)
                await execute(c.PullBatch(queue="q", count=50))
                await execute(c.FailBatch(failures=[c.Failure(id=job_id) for job_id in ids]))
            await trio.sleep(10.02 if life == 1 else 1 if life < 3 else 20)
            counts = server.counts()
            nursery.cancel_scope.cancel()
        assert counts["waiting"] + counts["failed"] == 50
        assert counts["waiting"] == 0 if life == 0 else counts["waiting"] > 0
    assert counts["waiting"] == 50
    jobs = list(store.load())
    assert sorted(job.id for job in jobs) == sorted(ids)
    assert {job.noted().auto_retries for job in jobs} == {1}


async def test_a_start_minds_those_that_were_there(running: World, nursery: trio.Nursery):
    """Nothing else happens there."""
    await running.core.execute(c.SetDlqConfig(queue="q", auto_retry=True, auto_retry_interval=1000))
    [job_id] = await dead(running)
    second = World(inner=running.store.inner)
    second.start(nursery)
    nursery.start_soon(looped(AutoRetrier(second.core, second.engine, second.store)))
    second.core.advance()
    await trio.sleep(2)
    assert second.state(job_id) is State.WAITING


# --- a store that is a network away -----------------------------------------------------------------


@pytest.fixture
async def distant(nursery: trio.Nursery) -> World:
    world = World(away_s=0.01)
    world.start(nursery)
    await settled()
    return world


async def test_nobody_stands_still_while_the_records_are_asked_for(distant: World, nursery: trio.Nursery):
    store = distant.store
    assert isinstance(store, DistantStore)
    await begin(distant, nursery)
    ids = await dead(distant, 2)
    store.look_s = 3
    answers = Answers(distant, nursery)
    await answers.ask("job", distant.pull, wait_ms=60_000)
    await trio.sleep(2)
    assert await distant.push("other")
    assert "job" not in answers
    await trio.sleep(6)
    assert answers["job"] == ids[0]
    assert "records" in store.asked


async def test_one_that_is_retried_by_hand_meanwhile_is_not_retried_again(distant: World, nursery: trio.Nursery):
    store = distant.store
    assert isinstance(store, DistantStore)
    await begin(distant, nursery)
    [job_id] = await dead(distant)
    [other] = await dead(distant)
    store.look_s = 1
    await trio.sleep(1.5)
    store.look_s = 0.01
    await distant.core.execute(c.RetryDlq(queue="q", job_id=job_id))
    await trio.sleep(30)
    jobs = distant.engine.jobs
    assert (jobs[job_id].noted().auto_retries, jobs[other].noted().auto_retries) == (0, 1)


async def test_a_death_while_the_records_are_asked_for_is_not_forgotten(distant: World, nursery: trio.Nursery):
    store = distant.store
    assert isinstance(store, DistantStore)
    await begin(distant, nursery)
    await dead(distant)
    store.look_s = 2
    await trio.sleep(1.5)
    await dead(distant)
    await trio.sleep(30)
    assert waiting(distant) == 2


async def test_a_server_that_may_not_lead_any_more_retries_nothing(distant: World, nursery: trio.Nursery):
    store = distant.store
    assert isinstance(store, DistantStore)
    await begin(distant, nursery)
    await dead(distant)
    store.is_led = False
    await trio.sleep(30)
    assert waiting(distant) == 0
    store.is_led = True
    await trio.sleep(2)
    assert waiting(distant) == 1


async def test_a_step_that_is_never_known_well_enough_is_refused(distant: World):
    """What it asks for is another question each time."""
    core, asked = distant.core, iter(range(10**6))
    assert isinstance(core, AwaitingCore)

    def ask(now: int) -> None:
        distant.engine.archive.find(f"job-{next(asked)}")

    with pytest.raises(Refused, match="verloaded"):
        await core.step_knowing(ask)
    distant.store.blind = True
    with pytest.raises(StoreError):
        await core.step_knowing(ask)
