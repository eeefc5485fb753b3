"""A quiet worker's waiting pulls get nothing, cost nothing, and stand in line again when it is unquieted."""

import trio

from bunqueue_trio import config
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.runtime.picture import look
from bunqueue_trio.runtime.services import WorkerSweep, looped
from tests.runtime.runtime_world import Answers, World, settled


async def quiet(world: World, name: str) -> None:
    await world.core.execute(c.QuietWorker(id=name))


async def unquiet(world: World, name: str) -> None:
    await world.core.execute(c.UnquietWorker(id=name))


async def test_a_pull_that_waits_is_passed_over_while_its_worker_is_quiet(running: World, answers: Answers):
    await answers.ask("mine", running.pull, wait_ms=60_000, owner="one")
    await answers.ask("other", running.pull, wait_ms=60_000, owner="two")
    await quiet(running, "one")
    first = await running.push()
    await settled()
    assert ("other" in answers, "mine" in answers) == (True, False)
    assert answers["other"] == first
    second = await running.push()
    await trio.sleep(1)
    assert "mine" not in answers
    assert running.core.pulls_waiting == 1
    await unquiet(running, "one")
    await settled()
    assert answers["mine"] == second
    assert (running.core.waiting.lines, running.core.waiting.aside, running.core.pulls_waiting) == ({}, {}, 0)


async def test_a_pull_of_a_quiet_worker_waits_its_time_and_spins_nothing(running: World, answers: Answers):
    await running.pull(owner="one")
    await quiet(running, "one")
    await running.push()
    served, serve = list[str](), running.engine.offers
    await answers.ask("mine", running.pull, wait_ms=5000, owner="one")
    running.engine.offers = lambda name: served.append(name) or serve(name)  # type: ignore[method-assign, func-returns-value]
    await trio.sleep(6)
    assert answers["mine"] is None
    assert answers.at_ms["mine"] == 5000
    assert (served, running.core.waiting.declined, running.core.waiting.aside) == ([], {}, {})


async def test_who_named_no_queue_and_is_quiet_is_found_where_it_asks(running: World, answers: Answers):
    """Else a job would wait because nobody asks, beside a worker that asks for it and is to take no more."""
    await running.core.execute(c.RegisterWorker(name="mail-3", worker_id="one"))
    await answers.ask("mine", running.pull, wait_ms=60_000, owner="one")
    await quiet(running, "one")
    job_id = await running.push()
    await settled()
    told = await running.core.execute(c.Why(id=job_id))
    assert (told.code, "mail-3" in told.why) == ("workers-quiet", True)  # type: ignore[attr-defined]
    [seen] = await look(running.engine, running.store)
    assert seen.quiet == ("mail-3",)
    await answers.ask("other", running.pull, "r", wait_ms=60_000, owner="two")
    assert [each.quiet for each in await look(running.engine, running.store)] == [("mail-3",)]


async def test_who_says_later_who_it_is_is_passed_over_too(running: World, answers: Answers):
    await answers.ask("mine", running.pull, wait_ms=60_000, owner="socket")
    await running.core.execute(c.RegisterWorker(worker_id="one"), "socket")
    await quiet(running, "one")
    await answers.ask("other", running.pull, wait_ms=60_000, owner="two")
    job = await running.push()
    await settled()
    assert answers["other"] == job
    assert "mine" not in answers
    assert running.core.waiting.declined == {}
    await unquiet(running, "one")
    job = await running.push()
    await settled()
    assert answers["mine"] == job


async def test_the_pulls_of_one_that_is_quiet_end_with_it_and_at_a_stop(running: World, answers: Answers):
    for name in ("one", "two"):
        await running.pull(owner=name)
        await quiet(running, name)
    waiting = await answers.ask("gone", running.pull, wait_ms=60_000, owner="one")
    await answers.ask("stays", running.pull, wait_ms=60_000, owner="two")
    waiting.cancel()
    await settled()
    assert list(running.core.waiting.aside) == ["two"]
    running.core.stop_polls()
    await settled()
    assert answers["stays"] is None
    assert (running.core.waiting.aside, running.core.pulls_waiting) == ({}, 0)


async def test_a_worker_that_leaves_while_it_is_quiet_is_not_quiet_when_it_comes_back(running: World):
    await running.core.execute(c.RegisterWorker(worker_id="one"), "socket")
    await quiet(running, "one")
    job = await running.push()
    running.core.release("socket", dropped=False)
    assert await running.pull(owner="other") == job
    assert running.engine.workers.quiet == 0


async def test_workers_that_are_silent_are_forgotten_in_time(running: World, nursery: trio.Nursery):
    nursery.start_soon(looped(WorkerSweep(running.core)))
    await running.core.execute(c.RegisterWorker(worker_id="one"))
    await running.core.execute(c.RegisterWorker(worker_id="two"), "socket")
    running.core.note_address("socket", "10.0.0.7")
    await trio.sleep(config.WORKER_SILENT_MS / 1000 - 1)
    assert sorted(running.engine.workers) == ["one", "two"]
    await trio.sleep(1 + config.WORKER_SWEEP_MS / 1000)
    assert list(running.engine.workers) == ["two"]
    assert [kind for kind, _ in running.published if kind.startswith("worker")][-1:] == ["workerLost"]


async def test_a_quiet_worker_is_quiet_after_a_crash(running: World):
    await running.core.execute(c.RegisterWorker(worker_id="one"))
    await quiet(running, "one")
    job = await running.push()
    again = World(inner=running.store.inner)
    nothing = again.core.begin(c.Pull(queue="q", owner="one", timeout=60_000))
    assert nothing.waits
    given = again.core.begin(c.Pull(queue="q", owner="two", timeout=60_000)).reply
    assert given.job.id == job  # type: ignore[attr-defined]
