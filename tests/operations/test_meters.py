"""What is counted while the server works, under virtual time."""

import functools
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from msgspec import Raw
from trio.testing import MockClock

from bunqueue_trio.config import Settings
from bunqueue_trio.engine.job import DEFAULT_OPTIONS, Job, State
from bunqueue_trio.engine.ready import Ready
from bunqueue_trio.pages.prometheus import prometheus
from bunqueue_trio.pages.table import make_page
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.meters import Histogram, LoopLag
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.tree import serve
from bunqueue_trio.storage.memory import MemoryStore
from tests.storage.distant import DistantStore


async def idle(server: Server, *, task_status: trio.TaskStatus[list[str]]) -> None:
    task_status.started([])
    await trio.sleep_forever()


@pytest.fixture
async def server(nursery: trio.Nursery) -> AsyncIterator[Server]:
    running = Server(Settings(metrics_queues_max=2), MemoryStore(), Clock(1_000_000))
    await nursery.start(functools.partial(serve, running, (idle,)))
    yield running
    nursery.cancel_scope.cancel()


def push(queue: str, **options: object) -> c.Push:
    return c.Push(queue=queue, data=Raw(b"1"), **options)  # type: ignore[arg-type]


async def samples(server: Server) -> dict[str, float]:
    lines = (await prometheus(server))[1].decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}


def test_a_value_is_counted_by_the_smallest_bound_that_it_does_not_exceed():
    histogram = Histogram((1, 10))
    for value in (0, 1, 1.5, 10, 11):
        histogram.observe(value)
    assert histogram.counts == [2, 2, 1]
    assert (histogram.count, histogram.sum) == (5, 23.5)


async def test_a_waiting_pull_that_finds_nothing_is_no_slow_pull(autojump_clock: MockClock, server: Server):
    await server.core.execute(c.Pull(queue="q", timeout=30_000))
    assert server.core.meters.pull.count == 1
    assert server.core.meters.pull.sum == 0


async def test_a_waiting_pull_that_is_served_is_no_slow_pull(
    autojump_clock: MockClock, server: Server, nursery: trio.Nursery
):
    nursery.start_soon(server.core.execute, c.Pull(queue="q", timeout=30_000))
    await trio.sleep(5)
    await server.core.execute(push("q"))
    await trio.sleep(1)
    assert server.core.meters.pull.count == 1
    assert server.core.meters.pull.sum < 100
    assert server.core.meters.wait.count == 1


async def test_waiting_and_running_times_are_the_jobs_own(autojump_clock: MockClock, server: Server):
    await server.core.execute(push("q"))
    await trio.sleep(4)
    pulled = await server.core.execute(c.Pull(queue="q"))
    await trio.sleep(7)
    assert isinstance(pulled, r.PullReply)
    assert pulled.job is not None
    await server.core.execute(c.Ack(id=pulled.job.id))
    meters = server.core.meters
    assert (meters.wait.count, meters.wait.sum) == (1, 4000)
    assert (meters.run.count, meters.run.sum) == (1, 7000)
    assert (meters.push.count, meters.pull.count, meters.ack.count) == (1, 1, 1)


async def test_a_job_that_dies_without_a_run_has_no_running_time(autojump_clock: MockClock, server: Server):
    first = await server.core.execute(push("q"))
    assert isinstance(first, r.PushReply)
    await server.core.execute(push("q", depends_on=[first.id]))
    await server.core.execute(c.Cancel(id=first.id))
    assert (await samples(server))['bunqueue_jobs{state="failed"}'] == 1
    assert server.core.meters.run.count == 0


async def test_every_commit_is_counted_with_its_rows(autojump_clock: MockClock, server: Server):
    await server.core.execute(c.PushBatch(queue="q", jobs=[c.JobSpec(data=Raw(b"1"))] * 7))
    meters = server.core.meters
    assert (meters.commit.count, meters.commit_rows.sum) == (1, 7)
    found = await samples(server)
    assert found["bunqueue_commits_total"] == 1
    assert found['bunqueue_commit_rows_bucket{le="5"}'] == 0
    assert found['bunqueue_commit_rows_bucket{le="10"}'] == 1


async def test_refusals_are_no_latencies(autojump_clock: MockClock, server: Server):
    with pytest.raises(Exception, match="not active"):
        await server.core.execute(c.Ack(id="unknown"))
    assert server.core.meters.ack.count == 0


async def test_the_lag_of_the_loop_is_what_a_sleeper_oversleeps(autojump_clock: MockClock):
    histogram = Histogram((1, 100))
    lag = LoopLag(histogram)
    await lag.wait_due()
    await lag.step()
    assert histogram.counts == [1, 0, 0]
    await lag.wait_due()
    autojump_clock.jump(0.05)
    await lag.step()
    assert histogram.counts == [1, 1, 0]


async def test_the_fullest_queues_have_series_and_the_rest_is_counted(autojump_clock: MockClock, server: Server):
    for queue, jobs in (("a", 1), ("b", 3), ("c", 2), ("gone", 1)):
        await server.core.execute(c.PushBatch(queue=queue, jobs=[c.JobSpec(data=Raw(b"1"))] * jobs))
    pulled = await server.core.execute(c.Pull(queue="gone"))
    assert isinstance(pulled, r.PullReply)
    assert pulled.job is not None
    await server.core.execute(c.Ack(id=pulled.job.id))
    found = await samples(server)
    shown = {name for name in found if name.startswith("bunqueue_queue_jobs_waiting")}
    assert shown == {'bunqueue_queue_jobs_waiting{queue="b"}', 'bunqueue_queue_jobs_waiting{queue="c"}'}
    assert (found["bunqueue_queues"], found["bunqueue_queues_omitted"]) == (3, 1)


async def test_the_queues_where_a_job_is_active_for_longest_have_series(autojump_clock: MockClock, server: Server):
    """Not the fullest ones: a queue with one job, which hangs, is among the emptiest."""
    for queue, jobs in (("full", 5), ("fuller", 9), ("hangs", 1), ("works", 1)):
        await server.core.execute(c.PushBatch(queue=queue, jobs=[c.JobSpec(data=Raw(b"1"))] * jobs))
    await server.core.execute(c.Pull(queue="hangs"))
    await trio.sleep(20)
    await server.core.execute(c.Pull(queue="works"))
    await trio.sleep(5)
    await server.core.execute(c.Pull(queue="full"))
    found = {name: n for name, n in (await samples(server)).items() if "longest_active" in name}
    assert found == {
        'bunqueue_queue_longest_active_ms{queue="hangs"}': 25_000, 'bunqueue_queue_longest_active_ms{queue="works"}': 5000,
    }  # fmt: skip
    assert not [name for name in await samples(server) if "stuck_after" in name], "nobody knows what is usual"


async def test_when_a_job_counts_as_stuck_is_said_where_it_is_known(autojump_clock: MockClock, server: Server):
    for queue in ("a", "b"):
        await server.core.execute(c.PushBatch(queue=queue, jobs=[c.JobSpec(data=Raw(b"1"))] * 120))
    for _ in range(119):
        pulled: Any = await server.core.execute(c.Pull(queue="a"))
        await server.core.execute(c.Ack(id=pulled.job.id))
    for queue in ("a", "b"):
        await server.core.execute(c.Pull(queue=queue))
    await server.note_minute()
    found = {name: n for name, n in (await samples(server)).items() if "stuck_after" in name}
    assert found == {'bunqueue_queue_stuck_after_ms{queue="a"}': 60_000}


async def test_paused_and_limited_queues_are_counted_and_not_named(autojump_clock: MockClock, server: Server):
    for queue in ("a", "b", "c"):
        await server.core.execute(c.Pause(queue=queue))
    await server.core.execute(c.SetConcurrency(queue="c", concurrency=1))
    for queue in ("b", "c"):
        await server.core.execute(c.RateLimit(queue=queue, limit=1))
    names = [f"bunqueue_queues_{what}" for what in ("paused", "limited", "rate_limited")]
    found = await samples(server)
    assert [found[name] for name in names] == [3, 1, 2]
    await server.core.execute(c.Resume(queue="c"))
    await server.core.execute(c.ClearConcurrency(queue="c"))
    await server.core.execute(c.RateLimitClear(queue="b"))
    found = await samples(server)
    assert [found[name] for name in names] == [2, 0, 1]


async def test_the_page_is_made_once_a_second_for_all_who_ask(
    autojump_clock: MockClock, server: Server, monkeypatch: pytest.MonkeyPatch
):
    """However many ask, and if the one who made it goes away meanwhile."""
    made, answers = 0, []

    async def counted(server: Server) -> tuple[str, bytes, int]:
        nonlocal made
        made += 1
        await trio.sleep(0.1)
        return await prometheus(server)

    async def ask() -> None:
        answers.append(await make_page("prometheus", server))

    monkeypatch.setattr("bunqueue_trio.pages.prometheus.prometheus", counted)
    async with trio.open_nursery() as asking:
        with trio.move_on_after(0.05):
            await ask()
        for _ in range(50):
            asking.start_soon(ask)
    assert made == 2, "the first was cancelled"
    assert len(answers) == 50
    assert len(set(answers)) == 1
    await trio.sleep(1)
    await server.core.execute(push("new"))
    await ask()
    assert made == 3
    assert answers[-1] != answers[0]


@pytest.mark.parametrize("page", ["health", c.Stats, "metrics", "tasks", "ready"])
async def test_the_pages_for_probes_look_at_no_queue(
    autojump_clock: MockClock, server: Server, monkeypatch: pytest.MonkeyPatch, page: str | type[c.Command]
):
    for queue in "abc":
        await server.core.execute(push(queue))
        pulled = await server.core.execute(c.Pull(queue=queue))
        assert isinstance(pulled, r.PullReply)
        assert pulled.job is not None
        await server.core.execute(c.Ack(id=pulled.job.id))
    monkeypatch.setattr(server.store, "finished_counts", None)
    monkeypatch.setattr(server.engine, "queues", None)
    body = (await make_page(page, server))[1]
    if page in ("health", c.Stats):
        assert b'"completed":3' in body


async def test_a_queue_of_dead_jobs_alone_is_shown(autojump_clock: MockClock, server: Server):
    await server.core.execute(push("q", max_attempts=1))
    pulled = await server.core.execute(c.Pull(queue="q"))
    assert isinstance(pulled, r.PullReply)
    assert pulled.job is not None
    await server.core.execute(c.Fail(id=pulled.job.id))
    assert (await samples(server))['bunqueue_queue_jobs_dlq{queue="q"}'] == 1
    del server.engine.queues["q"]
    assert (await samples(server))['bunqueue_queue_jobs_dlq{queue="q"}'] == 1


async def test_the_age_of_the_oldest_ready_job_sees_every_queue_and_priority(autojump_clock: MockClock, server: Server):
    assert (await samples(server))["bunqueue_oldest_ready_job_age_ms"] == 0
    await server.core.execute(push("low", priority=-5))
    await trio.sleep(10)
    await server.core.execute(push("low", priority=5))
    await server.core.execute(push("other"))
    await trio.sleep(2)
    assert (await samples(server))["bunqueue_oldest_ready_job_age_ms"] == 12_000
    await server.core.execute(c.PullBatch(queue="low", count=2))
    assert (await samples(server))["bunqueue_oldest_ready_job_age_ms"] == 2000


async def test_stalls_and_the_jobs_lost_to_them_are_counted(autojump_clock: MockClock, server: Server):
    await server.core.execute(push("q"))
    for _ in range(4):
        await server.core.execute(c.Pull(queue="q", lock_ttl=1000))
        await trio.sleep(2)
    found = await samples(server)
    assert found["bunqueue_jobs_stalled_total"] == 4
    assert found["bunqueue_jobs_lost_to_stalls_total"] == 1
    assert found["bunqueue_jobs_failed_total"] == 1


def job(order: int, run_at: int, priority: int = 0) -> Job:
    made = Job(str(order), "q", b"1", DEFAULT_OPTIONS, priority, run_at, run_at, abs(order), order)
    made.state = State.WAITING
    return made


def test_the_oldest_of_a_line_may_be_behind_its_lifo_jobs():
    ready = Ready()
    assert ready.ready_since() is None
    ready.add(job(5, 50))
    assert ready.ready_since() == 50
    ready.add(job(-9, 90))  # LIFO: first to go, last to come
    assert ready.ready_since() == 50
    ready.add(job(2, 20))  # back in its old place
    assert ready.ready_since() == 20
    ready.add(job(-10, 10))
    ready.add(job(-11, 95))
    assert ready.ready_since() == 20, "of LIFO jobs only the next one is looked at"


def test_a_line_of_cancelled_jobs_has_no_age():
    ready = Ready()
    gone = [job(1, 10), job(2, 20, priority=1)]
    for one in gone:
        ready.add(one)
    ready.add(job(3, 30, priority=2))
    for one in gone:
        one.state = State.REMOVED
        ready.take(one)
    assert ready.ready_since() == 30


async def test_how_a_server_leads_is_shown_and_nothing_where_nobody_else_can():
    for store, told in ((MemoryStore(), (0, 0, 0)), (DistantStore(MemoryStore()), (7, 5000, 1234))):
        server = Server(Settings(), store, Clock())
        found = await samples(server)
        for name, value in zip(("leader_term", "lease_left_ms", "remembered_bytes"), told, strict=True):
            assert found[f"bunqueue_{name}"] == value
