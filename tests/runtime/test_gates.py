"""Who waits at a gate that is shut: it is as an empty queue, and opening it wakes who waits, first come first served."""

import trio

from bunqueue_trio.engine.job import State
from bunqueue_trio.protocol import commands as c
from tests.runtime.runtime_world import START_MS, Answers, World, settled
from tests.storage.faulty import Fault


async def test_a_waiting_pull_at_a_paused_queue_waits_and_is_woken_by_resume(running: World, answers: Answers):
    await running.core.execute(c.Pause(queue="q"))
    jobs = [await running.push() for _ in range(2)]
    assert await running.pull() is None
    await answers.ask("first", running.pull, wait_ms=60_000)
    await answers.ask("second", running.pull, wait_ms=60_000)
    await answers.ask("short", running.pull, wait_ms=100)
    await trio.sleep(10)
    assert answers.given == [("short", None)]
    assert answers.at_ms["short"] == 100
    await running.core.execute(c.Resume(queue="q"))
    await settled()
    assert (answers["first"], answers["second"]) == (jobs[0], jobs[1])
    assert (running.core.waiting.lines, running.core.pulls_waiting) == ({}, 0)


async def test_a_pause_that_ends_by_itself_wakes_who_waits_at_that_very_time(running: World, answers: Answers):
    job = await running.push()
    await running.core.execute(c.Pause(queue="q", until=START_MS + 5000))
    await answers.ask("poll", running.pull, wait_ms=60_000)
    await trio.sleep(4.999)
    assert "poll" not in answers
    await trio.sleep(0.001)
    await settled()
    assert (answers["poll"], answers.at_ms["poll"]) == (job, 5000)


async def test_who_waits_at_a_shut_gate_costs_nothing(running: World, answers: Answers):
    """Nobody is served with nothing, whatever else happens in the queue or by the clock."""
    await running.core.execute(c.Pause(queue="q"))
    await answers.ask("poll", running.pull, wait_ms=60_000)
    for delay in range(1, 6):
        await running.push(delay=delay * 1000)
        await running.push()
    serve, served = running.engine.offers, list[str]()
    running.engine.offers = lambda name: served.append(name) or serve(name)  # type: ignore[method-assign, func-returns-value]
    await trio.sleep(30)
    assert served == ["q"] * 5, "one look for each job that became ready"
    assert running.core.waiting.declined == {}
    assert "poll" not in answers


async def test_who_waits_is_counted(running: World, answers: Answers):
    for i in range(2):
        await answers.ask(f"poll {i}", running.pull, wait_ms=1000)
    seen = await running.core.execute(c.GetQueue(queue="q"))
    assert seen.queue.pulls_waiting == 2  # type: ignore[attr-defined]
    await trio.sleep(1)
    await settled()
    seen = await running.core.execute(c.GetQueue(queue="q"))
    assert seen.queue.pulls_waiting == 0  # type: ignore[attr-defined]


async def test_a_pause_is_answered_when_it_is_committed_and_so_is_the_look_at_it(running: World, answers: Answers):
    running.store.inline = False
    await running.core.execute(c.Pause(queue="q", reason="why"))
    assert running.store.inner.load_facts()
    said = await running.core.execute(c.IsPaused(queue="q"))
    assert (said.paused, said.reason, said.since) == (True, "why", START_MS)  # type: ignore[attr-defined]
    await running.core.execute(c.Resume(queue="q"))
    assert list(running.store.inner.load_facts()) == []


async def test_who_waits_for_room_gets_the_next_job_in_the_moment_there_is_some(running: World, answers: Answers):
    jobs = [await running.push() for _ in range(3)]
    await running.core.execute(c.SetConcurrency(queue="q", concurrency=1))
    assert await running.pull() == jobs[0]
    await answers.ask("first", running.pull, wait_ms=60_000)
    await answers.ask("second", running.pull, wait_ms=60_000)
    await trio.sleep(1)
    assert answers.given == []
    await running.ack(jobs[0])
    await settled()
    assert answers.given == [("first", jobs[1])]
    await running.core.execute(c.SetConcurrency(queue="q", concurrency=2))
    await settled()
    assert answers.given == [("first", jobs[1]), ("second", jobs[2])]


async def test_a_job_of_a_limited_queue_is_delivered_when_that_is_committed(answers: Answers, nursery: trio.Nursery):
    """Else a crash would forget that it is out, and there would be one more than may be."""
    world = World()
    world.start(nursery)
    await world.push()
    await world.core.execute(c.SetConcurrency(queue="q", concurrency=1))
    world.store.commits = iter([Fault.REFUSED, Fault.REFUSED])
    await answers.ask("pull", world.pull)
    assert "pull" not in answers
    await trio.sleep(1)
    assert answers["pull"] is not None
    assert [job.state for job in world.store.inner.load()] == [State.ACTIVE]


async def test_who_waits_at_a_rate_limit_is_woken_in_the_moment_there_is_room_and_not_before(
    running: World, answers: Answers
):
    jobs = [await running.push() for _ in range(4)]
    await running.core.execute(c.RateLimit(queue="q", limit=2, duration=10_000))
    assert await running.pull() == jobs[0]
    await trio.sleep(1)
    assert await running.pull() == jobs[1]
    await answers.ask("first", running.pull, wait_ms=60_000)
    await answers.ask("second", running.pull, wait_ms=60_000)
    serve, served = running.engine.offers, list[str]()
    running.engine.offers = lambda name: served.append(name) or serve(name)  # type: ignore[method-assign, func-returns-value]
    await trio.sleep(8.999)
    assert (answers.given, served) == ([], [])
    await trio.sleep(0.001)
    await settled()
    assert answers.given == [("first", jobs[2])]
    await trio.sleep(1)
    await settled()
    assert answers.given == [("first", jobs[2]), ("second", jobs[3])]
    assert answers.at_ms == {"first": 10_000, "second": 11_000}
    assert len(served) <= 4, "it looks when the gate opens, and again for who is next in line"


async def test_a_delivery_that_counts_is_committed_before_its_holder_hears_of_it(
    answers: Answers, nursery: trio.Nursery
):
    world = World()
    world.start(nursery)
    await world.push()
    await world.core.execute(c.RateLimit(queue="q", limit=1, duration=60_000))
    world.store.commits = iter([Fault.REFUSED, Fault.REFUSED])
    await answers.ask("pull", world.pull)
    assert "pull" not in answers
    await trio.sleep(1)
    assert answers["pull"] is not None
    assert any(b'"times":[[' in fact.value for fact in world.store.inner.load_facts())
