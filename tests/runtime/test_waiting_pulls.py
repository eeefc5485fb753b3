"""Waiting pulls: who gets a job that many wait for, and when a wait ends."""

import pytest
import trio

from bunqueue_trio.config import ADVANCE_MAX, SERVED_MAX
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from tests.runtime.runtime_world import Answers, World, settled


async def test_first_come_is_first_served(running: World, answers: Answers):
    for i in range(5):
        await answers.ask(f"poll {i}", running.pull, wait_ms=60_000)
    ids = [await running.push() for _ in range(5)]
    await settled()
    assert [(name, answers[name]) for name in sorted(dict(answers.given))] == [
        (f"poll {i}", job) for i, job in enumerate(ids)
    ]


async def test_several_jobs_of_one_push_serve_several_waiters(running: World, answers: Answers):
    for i in range(3):
        await answers.ask(f"poll {i}", running.pull, wait_ms=60_000)
    await running.core.execute(c.PushBatch(queue="q", jobs=[c.JobSpec(data=c.Raw(b"1")) for _ in range(2)]))
    await settled()
    assert sorted(name for name, _ in answers.given) == ["poll 0", "poll 1"]
    await running.push()
    await settled()
    assert "poll 2" in answers


@pytest.mark.parametrize("wait_ms", [1, 1000, 60_000])
async def test_a_waiting_pull_without_a_job_ends_exactly_at_its_time(running: World, answers: Answers, wait_ms: int):
    await trio.sleep(0.123)
    await answers.ask("poll", running.pull, wait_ms=wait_ms)
    await trio.sleep(100)
    assert answers.given == [("poll", None)]
    assert answers.at_ms["poll"] == 123 + wait_ms
    assert running.core.pulls_waiting == 0
    assert running.core.waiting.lines == {}


async def test_a_job_in_the_last_moment_is_taken(running: World, answers: Answers):
    await answers.ask("poll", running.pull, wait_ms=1000)
    await trio.sleep(0.999)
    job = await running.push()
    await settled()
    assert answers["poll"] == job


async def test_a_waiter_that_has_gone_gets_nothing(running: World, answers: Answers):
    gone = await answers.ask("gone", running.pull, wait_ms=60_000)
    await answers.ask("patient", running.pull, wait_ms=60_000)
    gone.cancel()
    await settled()
    job = await running.push()
    await settled()
    assert answers.given == [("patient", job)]


async def test_a_waiter_whose_time_is_over_gets_nothing(running: World, answers: Answers):
    await answers.ask("short", running.pull, wait_ms=10)
    await trio.sleep(0.01)
    await settled()
    job = await running.push()
    assert answers["short"] is None
    assert await running.pull() == job


async def test_every_way_to_become_ready_wakes_a_waiter(running: World, answers: Answers):
    parent = await running.push(queue="parents")
    assert await running.pull("parents") == parent
    await running.push(delay=1000)
    await running.push(queue="q", depends_on=[parent])
    await answers.ask("delay", running.pull, wait_ms=60_000)
    await answers.ask("dependency", running.pull, wait_ms=60_000)
    await trio.sleep(5)
    assert answers.at_ms == {"delay": 1000}
    await running.ack(parent)
    await settled()
    assert answers.at_ms["dependency"] == 5000
    await answers.ask("retry", running.pull, wait_ms=60_000)
    await running.fail(answers["delay"])
    await trio.sleep(5)
    assert (answers["retry"], answers.at_ms["retry"]) == (answers["delay"], 6000)
    await answers.ask("stall", running.pull, wait_ms=60_000)
    await running.core.execute(
        c.ExtendLock(id=answers["dependency"], token=_token(running, answers["dependency"]), duration=50)
    )
    await trio.sleep(1)
    assert answers["stall"] == answers["dependency"]


def _token(world: World, job_id: str) -> str:
    lease = world.engine.jobs[job_id].lease
    assert lease is not None
    return lease.token


async def test_queues_do_not_wake_each_other(running: World, answers: Answers):
    await answers.ask("a", running.pull, "a", wait_ms=60_000)
    await answers.ask("b", running.pull, "b", wait_ms=60_000)
    job = await running.push("b")
    await settled()
    assert answers.given == [("b", job)]


async def test_a_batch_pull_waits_for_the_first_job_and_takes_what_is_there(running: World, answers: Answers):
    await answers.ask("batch", running.pull_batch, 3, wait_ms=60_000)
    await answers.ask("single", running.pull, wait_ms=60_000)
    await running.core.execute(c.PushBatch(queue="q", jobs=[c.JobSpec(data=c.Raw(b"1")) for _ in range(5)]))
    await settled()
    assert [len(answers["batch"]), answers["single"] is not None] == [3, True]
    assert len(await running.pull_batch(10)) == 1
    await answers.ask("nothing", running.pull_batch, 3, wait_ms=1000)
    await trio.sleep(2)
    assert answers["nothing"] == []


async def test_a_bounded_number_may_wait_and_one_more_is_refused(answers: Answers, nursery: trio.Nursery):
    world = World(pollers_max=2)
    world.start(nursery)
    for i in range(3):
        await answers.ask(f"{i}", world.pull, wait_ms=1000)
    refused = answers["2"]
    assert isinstance(refused, Refused)
    assert (refused.status, refused.code, refused.retry_after) == (503, "too-many-waits", 1)
    assert str(refused) == "Server is overloaded: too many pulls and waits for jobs at once"
    assert world.core.pulls_waiting == 2
    await trio.sleep(2)
    await answers.ask("later", world.pull, wait_ms=1000)
    await settled()
    assert world.core.pulls_waiting == 1


async def test_stopping_answers_every_waiting_pull_empty_and_later_ones_at_once(running: World, answers: Answers):
    for i in range(3):
        await answers.ask(f"{i}", running.pull, f"q{i % 2}", wait_ms=60_000)
    running.core.stop_polls()
    await settled()
    assert [answer for _, answer in answers.given] == [None] * 3
    assert await running.pull(wait_ms=60_000) is None
    assert running.now_ms() == 0
    job = await running.push()
    assert await running.pull(wait_ms=60_000) == job


async def test_a_waiting_pull_that_began_before_the_stop_is_answered_at_once(running: World):
    begun = running.core.begin(c.Pull(queue="q", timeout=60_000))
    running.core.stop_polls()
    assert await running.core.finish(begun) is begun.reply
    assert running.now_ms() == 0


async def test_a_job_that_comes_between_begin_and_finish_of_a_waiting_pull_is_not_overslept(running: World):
    """A WebSocket begins a poll in its reader and finishes it in a task of its own."""
    begun = running.core.begin(c.Pull(queue="q", timeout=60_000))
    job = await running.push()
    reply = await running.core.finish(begun)
    assert reply.job is not None  # type: ignore[attr-defined]
    assert (reply.job.id, running.now_ms()) == (job, 0)  # type: ignore[attr-defined]


async def test_who_waits_is_served_before_who_comes_at_the_due_moment(running: World, answers: Answers):
    """Also when the deadline is noticed by the pull that comes, before the scheduler has woken."""
    ids = [await running.push(delay=1000) for _ in range(3)]
    for name in ("first", "second", "third"):
        await answers.ask(name, running.pull, wait_ms=60_000)
    running.skip(1000)
    reply = running.core.begin(c.Pull(queue="q")).reply
    assert reply.job is None  # type: ignore[attr-defined]
    await settled()
    assert [answers[name] for name in ("first", "second", "third")] == ids


@pytest.fixture
def steps(running: World, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many jobs each step of the core has changed."""
    counts, before = [0], [0]
    settle, totals = running.core._settle, running.engine.totals

    def counted(now: int, **how: bool) -> None:
        settle(now, **how)
        done = totals.expired + totals.pulled + totals.failed
        counts.append(done - before[0])
        before[0] = done

    monkeypatch.setattr(running.core, "_settle", counted)
    return counts


@pytest.mark.thorough
async def test_who_waits_behind_an_avalanche_of_expired_jobs_is_served_in_turns(
    running: World, answers: Answers, steps: list[int]
):
    """No step works off all of it, and none is taken for nothing: the engine is asked again when it has gone on."""
    for _ in range(20):
        await running.core.execute(c.PushBatch(queue="q", jobs=[c.JobSpec(data=c.Raw(b"1"), ttl=1000)] * ADVANCE_MAX))
    await running.core.execute(c.PushBatch(queue="q", jobs=[c.JobSpec(data=c.Raw(b"1"))] * 2))
    running.skip(1000)
    await answers.ask("first", running.pull, wait_ms=60_000)
    await answers.ask("second", running.pull, wait_ms=60_000)
    assert [name for name, job in answers.given if job] == ["first", "second"]
    assert running.engine.totals.expired == 20 * ADVANCE_MAX
    assert max(steps) <= 3 * ADVANCE_MAX + 2


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1)])
async def test_who_came_first_is_served_first_in_whatever_order_their_tasks_run(
    running: World, answers: Answers, order: tuple[int, ...]
):
    begun = []
    for _ in range(3):
        begun.append(running.core.begin(c.Pull(queue="q", timeout=60_000)))
        await trio.sleep(0.001)
    for n in order:
        await answers.ask(str(n), running.core.finish, begun[n])
    ids = [await running.push() for _ in range(3)]
    await settled()
    assert [reply.job.id for _, reply in sorted(answers.given)] == ids


@pytest.mark.thorough
async def test_many_who_wait_are_served_in_steps_and_first_come_first_served(
    running: World, answers: Answers, steps: list[int]
):
    """A resume, the end of a pause or a bulk push may have a job for each of them."""
    many = 3 * SERVED_MAX
    await running.core.execute(c.Pause(queue="q"))
    running.core._pollers_max = 2 * many
    for n in range(many):
        await answers.ask(f"{n:05}", running.pull, wait_ms=60_000)
    ids: list[str] = []
    for _ in range(3):
        reply = await running.core.execute(c.PushBatch(queue="q", jobs=[c.JobSpec(data=c.Raw(b"1"))] * SERVED_MAX))
        ids += reply.ids  # type: ignore[attr-defined]
    late = running.core.begin(c.Resume(queue="q"))
    begun = running.core.begin(c.Pull(queue="q", timeout=1000))
    assert begun.waits, "who comes while others are still to be served stands behind them"
    await running.core.finish(late)
    await settled()
    assert "q" not in running.core.waiting.lines
    assert max(steps) <= SERVED_MAX
    assert [job for _, job in sorted(answers.given)] == ids


async def test_one_large_pull_that_waits_is_served_in_a_step(running: World, answers: Answers, steps: list[int]):
    """It is answered whole; the next one has a step of its own, and what was given before is less than a step."""
    await running.core.execute(c.Pause(queue="q"))
    running.core._pollers_max = SERVED_MAX + 9
    for n in range(SERVED_MAX - 1):
        await answers.ask(f"small-{n}", running.pull, wait_ms=60_000)
    for n in range(3):
        await answers.ask(f"large-{n}", running.pull_batch, 1000, wait_ms=60_000)
    for _ in range(4):
        await running.core.execute(c.PushBatch(queue="q", jobs=[c.JobSpec(data=c.Raw(b"1"))] * 1000))
    running.core.begin(c.Resume(queue="q"))
    await settled()
    assert [len(answers[f"large-{n}"]) for n in range(3)] == [1000] * 3
    assert sorted(steps)[-3:] == [1000, 1000, 1000 + SERVED_MAX - 1]


@pytest.mark.slow
async def test_a_hand_over_to_many_does_not_work_off_deadlines_for_each(
    running: World, answers: Answers, steps: list[int]
):
    first = await running.push("other")
    for _ in range(20):
        jobs = [c.JobSpec(data=c.Raw(b"1"), depends_on=[first])] * ADVANCE_MAX
        await running.core.execute(c.PushBatch(queue="other", jobs=jobs))
    await running.core.execute(c.Pause(queue="q"))
    await running.core.execute(c.PushBatch(queue="q", jobs=[c.JobSpec(data=c.Raw(b"1"))] * 50))
    for n in range(50):
        await answers.ask(f"{n}", running.pull, wait_ms=60_000)
    running.core.begin(c.Cancel(id=first))
    running.core.begin(c.Resume(queue="q"))
    await settled()
    assert running.engine.totals.pulled == 50
    assert max(steps) <= 3 * ADVANCE_MAX + 50


# --- taking a poll back ------------------------------------------------------------------------------------


async def test_a_stopped_waiting_pull_ends_empty_and_gets_nothing(running: World, answers: Answers):
    begun = running.core.begin(c.Pull(queue="q", timeout=60_000))
    await answers.ask("stopped", running.core.finish, begun)
    await answers.ask("patient", running.pull, wait_ms=60_000)
    assert running.core.stop_poll(begun)
    job = await running.push()
    await settled()
    assert dict(answers.given) == {"stopped": begun.reply, "patient": job}
    assert not running.core.stop_poll(begun)
    assert (running.core.pulls_waiting, running.core.waiting.lines) == (0, {})


async def test_a_waiting_pull_is_stopped_before_it_stands_in_line(running: World, answers: Answers):
    begun = running.core.begin(c.PullBatch(queue="q", count=2, timeout=60_000))
    assert running.core.stop_poll(begun)
    job = await running.push()
    assert (await running.core.finish(begun)).jobs == []  # type: ignore[attr-defined]
    assert await running.pull() == job


async def test_a_waiting_pull_that_got_its_job_is_not_stopped(running: World, answers: Answers):
    begun = running.core.begin(c.Pull(queue="q", timeout=60_000))
    await answers.ask("poll", running.core.finish, begun)
    pushed = running.core.begin(c.Push(queue="q", data=c.Raw(b"1")))  # before the poll can run
    assert not running.core.stop_poll(begun)
    await settled()
    assert answers["poll"].job.id == pushed.reply.id  # type: ignore[attr-defined]
