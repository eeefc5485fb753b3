"""A server whose store is a network away: everything waits for its commit as ever, and nothing stands still meanwhile."""

import pytest
import trio

from bunqueue_trio.config import Settings
from bunqueue_trio.engine.job import State
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.tree import serve
from bunqueue_trio.storage.memory import MemoryStore
from tests.runtime.runtime_world import AWAY_S, START_MS, Answers, Ids, World
from tests.storage.distant import DistantStore
from tests.storage.faulty import Fault

ROUND_MS = 20


async def test_an_answer_comes_with_the_answer_to_its_commit(distant: World, nursery: trio.Nursery):
    answers = Answers(distant, nursery)
    for n in range(5):
        await answers.ask(f"push {n}", distant.push)
    await trio.sleep(10 * AWAY_S)
    assert answers.at_ms["push 0"] == ROUND_MS
    assert {answers.at_ms[f"push {n}"] for n in range(1, 5)} == {2 * ROUND_MS}  # they have gathered meanwhile
    assert distant.store.written == [1, 2]


async def test_who_is_alone_waits_for_the_store_too(distant: World):
    assert isinstance(distant.store, DistantStore)
    distant.store.away_s = 0.002  # quick enough for a commit in its own step, if one were possible
    for n in range(1, 6):
        await distant.push()
        assert distant.now_ms() == n * 4


async def test_what_a_step_of_many_commands_has_changed_is_left_to_the_flusher(distant: World):
    """It cannot be committed in the step, and nobody heard of it during the step."""
    with distant.core.turns.many:
        for _ in range(3):
            begun = distant.core.begin(c.Push(queue="q", data=c.Raw(b"1")))
        distant.journal.hurry()
    await trio.sleep(3 * AWAY_S)
    assert isinstance(distant.store, DistantStore)
    assert distant.store.written == [1]
    assert distant.core.finish_nowait(begun) == begun.reply


async def test_a_job_is_delivered_when_its_push_is_committed(distant: World, nursery: trio.Nursery):
    answers = Answers(distant, nursery)
    await answers.ask("pull", distant.pull, wait_ms=1000)
    await answers.ask("push", distant.push)
    await trio.sleep(2.5 * AWAY_S)
    assert answers.at_ms["pull"] == answers.at_ms["push"] == ROUND_MS


async def test_a_look_at_a_job_waits_for_what_it_tells(distant: World, nursery: trio.Nursery):
    answers = Answers(distant, nursery)
    await answers.ask("push", distant.push)
    await answers.ask("state", distant.core.execute, c.GetState(id="id-000001"))
    assert "state" not in answers
    await trio.sleep(3 * AWAY_S)
    assert answers["state"].state == "waiting"
    assert answers.at_ms["state"] == ROUND_MS


async def test_events_are_published_when_the_answer_has_come_not_when_it_is_written(
    distant: World, nursery: trio.Nursery
):
    answers = Answers(distant, nursery)
    await answers.ask("push", distant.push)
    await trio.sleep(1.5 * AWAY_S)
    assert list(distant.stored()) == ["id-000001"]
    assert distant.published == []
    await trio.sleep(AWAY_S)
    assert distant.published == [("pushed", "id-000001")]


async def test_a_refusal_comes_as_late_and_the_same_batch_is_written_again(nursery: trio.Nursery):
    world = World([Fault.REFUSED], away_s=AWAY_S)
    world.start(nursery)
    assert await world.push() == "id-000001"
    assert world.store.tried == [(1, Fault.REFUSED), (1, Fault.NONE)]


async def test_a_flusher_that_is_cancelled_in_a_commit_leaves_a_batch_that_is_written_once():
    world = World(away_s=AWAY_S)
    async with trio.open_nursery() as life:
        for cut_s in (0.5 * AWAY_S, 1.5 * AWAY_S):  # on the way there, and on the way back
            before = len(world.stored())
            world.core.begin(c.Push(queue="q", data=c.Raw(b"1")))
            with trio.move_on_after(cut_s):
                await world.journal.run()
            with trio.move_on_after(5 * AWAY_S):
                await world.journal.run()
            assert len(world.stored()) == before + 1
        assert world.store.written == [1, 2]
        assert isinstance(world.store, DistantStore)
        assert world.store.repeated == 1
        life.cancel_scope.cancel()


async def test_a_large_cascade_goes_to_it_in_batches(distant: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bunqueue_trio.engine.engine.GATHER_JOBS_MAX", 20)
    monkeypatch.setattr("bunqueue_trio.engine.engine.ADVANCE_MAX", 10)
    monkeypatch.setattr("bunqueue_trio.engine.commands.ADVANCE_MAX", 10)
    first = await distant.push("first")
    specs = [c.JobSpec(data=c.Raw(b"1"), depends_on=[first])] * 100
    await distant.core.execute(c.PushBatch(queue="many", jobs=specs))
    sizes: list[int] = []
    distant.journal.on_commit.append(lambda batch, _: sizes.append(len(batch.jobs)))
    await distant.pull("first")
    await distant.ack(first)
    await trio.sleep(50 * AWAY_S)
    assert distant.engine.queues["many"].counts[State.WAITING] == 100
    assert max(sizes) <= 30


async def test_a_server_stops_when_all_that_it_answered_is_there():
    inner = MemoryStore()
    server = Server(Settings(), DistantStore(inner, away_s=AWAY_S), Clock(START_MS), Ids())
    answered: list[str] = []

    async def client() -> None:
        while not server.stop.is_set():
            reply = await server.core.execute(c.Push(queue="q", data=c.Raw(b"1")))
            answered.append(reply.id)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, server, [])
        await trio.sleep(0.1)
        for _ in range(5):
            nursery.start_soon(client)
        await trio.sleep(30 * AWAY_S)
        server.stop.set()
    assert len(answered) > 20
    assert {job.id for job in inner.load()} >= set(answered)
