"""Orderly stops and ends: a restart takes no job from a worker, and nobody who leaves in order costs a stall."""

from collections.abc import Callable
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
import trio
import trio.testing

from bunqueue_trio import commands as c
from bunqueue_trio.client import Client, Job, Worker
from bunqueue_trio.errors import OVERLOADED, BunqueueError, ServerUnavailable
from bunqueue_trio.runtime.core import Core
from bunqueue_trio.testing import Bunqueue
from tests.client.loops import on_both
from tests.client.test_real_server import ws
from tests.patience import PATIENCE_S
from tests.wire.server import Server, StartServer

# --- the server stops -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("express", ["true", "false"])
@on_both
async def test_restart_leaves_long_jobs_to_their_workers(start_server: StartServer, queue: str, express: str):
    server = start_server({"EXPRESS": express, "SHUTDOWN_GRACE_MS": "40000"})
    worker = Worker(queue, ws(server), concurrency=3)
    begun, over, runs = anyio.Event(), anyio.Event(), list[str]()

    @worker.handler
    async def hold(job: Job) -> str:
        runs.append(job.id)
        if len(runs) == 3:
            begun.set()
        await over.wait()
        return "done"

    async with anyio.create_task_group() as nursery:
        nursery.start_soon(worker.run)
        async with Client(ws(server)) as client:
            ids = await client.push_many(queue, [{"data": n} for n in range(3)])
            await begun.wait()
            assert await anyio.to_thread.run_sync(server.terminate) == 0
            # How long it takes: tests/stream/test_stops.py.
            assert "the grace is over" not in server.log
            await anyio.to_thread.run_sync(server.start)
            await client.ping()
            assert [await client.state(job_id) for job_id in ids] == ["active"] * 3
            over.set()
            for job_id in ids:
                assert await client.wait(job_id, PATIENCE_S) == "done"
            infos = [await client.look(job_id) for job_id in ids]
            assert [info.stalls for info in infos] == [0] * 3
        worker.stop()
    assert sorted(runs) == sorted(ids)


@pytest.mark.slow
@pytest.mark.parametrize("express", ["true", "false"])
@on_both
async def test_several_stops_during_many_jobs_do_none_twice(start_server: StartServer, queue: str, express: str):
    fresh = start_server({"EXPRESS": express})
    runs: dict[str, int] = {}
    workers = [Worker(queue, ws(fresh), concurrency=5) for _ in range(3)]

    async def work(job: Job) -> None:
        runs[job.id] = runs.get(job.id, 0) + 1
        await anyio.sleep(0.05)

    async with anyio.create_task_group() as nursery:
        for worker in workers:
            worker.handler(work)
            nursery.start_soon(worker.run)
        async with Client(ws(fresh)) as client:
            ids = await client.push_many(queue, [{"data": n} for n in range(120)])
            for _ in range(2):
                seen = len(runs)
                while len(runs) < min(seen + 20, 120):  # noqa: ASYNC110 - whatever they get through
                    await anyio.sleep(0.01)
                assert await anyio.to_thread.run_sync(fresh.terminate) == 0
                await anyio.to_thread.run_sync(fresh.start)
            for job_id in ids:
                await client.wait(job_id, PATIENCE_S)
        for worker in workers:
            worker.stop()
    assert {job_id: n for job_id, n in runs.items() if n != 1} == {}
    assert set(runs) == set(ids)


@pytest.mark.parametrize("down_s", [0, 5, 10, 25])
async def test_worker_goes_on_over_a_stop(bunqueue: Bunqueue, down_s: float):
    worker = bunqueue.worker("q", concurrency=5)
    runs: list[str] = []

    @worker.handler
    async def hold(job: Job) -> float:
        runs.append(job.id)
        await trio.sleep(60)
        return bunqueue.elapsed

    bunqueue.start(worker)
    ids = await bunqueue.client.push_many("q", [{"data": n} for n in range(5)])
    await trio.sleep(10)
    stopping_at = bunqueue.elapsed
    await bunqueue.stop()
    assert bunqueue.elapsed - stopping_at < 1
    await trio.sleep(down_s)
    await bunqueue.recover()
    for job_id in ids:
        assert await bunqueue.client.wait(job_id, 100) == pytest.approx(60, abs=0.5)
    assert sorted(runs) == sorted(ids)


async def test_a_restart_of_ten_seconds_is_waited_out_and_told_as_it_is(bunqueue: Bunqueue, nursery: trio.Nursery):
    """Workers go on, and a job in hand is done once; a client that is patient hears nothing of it, and one that is not what is known."""
    worker, runs = bunqueue.worker("q"), list[str]()

    @worker.handler
    async def handle(job: Job) -> str:
        runs.append(job.id)
        await trio.sleep(20)
        return job.id

    bunqueue.start(worker)
    first = await bunqueue.client.push("q")
    told: dict[str, BaseException | str] = {}

    async def ask(name: str, patience: float) -> None:
        async with bunqueue.connect(patience=patience) as client:
            await client.ping()
            await trio.sleep(5)
            try:
                told[name] = await client.push("q")
            except BunqueueError as error:
                told[name] = error

    nursery.start_soon(ask, "patient", 30)
    nursery.start_soon(ask, "impatient", 3)
    await trio.sleep(4)
    await bunqueue.stop()
    await trio.sleep(10)
    await bunqueue.recover()
    await trio.sleep(60)
    assert isinstance(told["impatient"], ServerUnavailable), "nothing was changed, and it says so"
    assert "no connection for 3 s" in str(told["impatient"])
    assert runs == [first, told["patient"]]
    for job_id in runs:
        assert (await bunqueue.client.look(job_id)).state == "completed"
        assert (await bunqueue.client.look(job_id)).stalls == 0
    nursery.cancel_scope.cancel()


class NoReports:
    """A server that takes no reports, and all else, while ``away``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.away = True
        begin = Core.begin

        def refuse(core: Core, command: c.Command, *rest: Any, **options: Any) -> Any:
            if self.away and isinstance(command, c.AckBatch | c.Fail | c.FailBatch):
                raise OVERLOADED.refuse()
            return begin(core, command, *rest, **options)

        monkeypatch.setattr(Core, "begin", refuse)


@pytest.mark.parametrize("how", ["completed", "failed"])
async def test_done_job_whose_report_is_refused_for_long_is_run_once(
    bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch, how: str
):
    """After a restart its lease runs out unless it is claimed, as those are that still run."""
    reports = NoReports(monkeypatch)
    worker = bunqueue.worker("q")
    runs: list[str] = []

    @worker.handler
    async def handle(job: Job) -> None:
        runs.append(job.id)
        await trio.sleep(5)
        if how == "failed":
            raise ValueError("bad")

    bunqueue.start(worker)
    job_id = await bunqueue.client.push("q", max_attempts=1)
    await trio.sleep(1)
    await bunqueue.stop()
    await trio.sleep(10)
    await bunqueue.recover()
    await trio.sleep(200)
    assert await bunqueue.client.state(job_id) == "active"
    reports.away = False
    await trio.sleep(5)
    state = await bunqueue.client.look(job_id)
    assert (state.state, state.stalls, runs) == (how, 0, [job_id])


@pytest.mark.parametrize("how", ["completed", "failed"])
async def test_worker_takes_no_more_than_it_can_report(bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch, how: str):
    """Done jobs keep their slots while the server takes no reports; then all goes on."""
    reports = NoReports(monkeypatch)
    worker = bunqueue.worker("q", concurrency=3)
    runs: list[str] = []

    @worker.handler
    async def handle(job: Job) -> None:
        runs.append(job.id)
        await trio.sleep(1)
        if how == "failed":
            raise ValueError("bad")

    ids = await bunqueue.client.push_many("q", [{"data": n, "max_attempts": 1} for n in range(20)])
    bunqueue.start(worker)
    await trio.sleep(100)
    assert 3 <= len(runs) <= 6  # those that were taken before the first refusal came
    assert sum(job.state == "active" for job in bunqueue.jobs.values()) == len(runs)
    reports.away = False
    await trio.sleep(30)
    assert {await bunqueue.client.state(job_id) for job_id in ids} == {how}
    assert sorted(runs) == sorted(ids)


async def test_jobs_of_a_worker_that_does_not_come_back_go_back_uncounted(bunqueue: Bunqueue):
    worker = bunqueue.worker("q")

    @worker.handler
    async def hold(job: Job) -> None:
        await trio.sleep_forever()

    bunqueue.start(worker)
    job_id = await bunqueue.client.push("q")
    await trio.sleep(1)
    await bunqueue.stop()
    bunqueue.kill(worker)
    await bunqueue.recover()
    recovered_at = bunqueue.elapsed
    job = await bunqueue.client.pull("q", timeout=60)
    assert job is not None
    assert (job.id, bunqueue.jobs[job_id].stalls) == (job_id, 0)
    assert bunqueue.elapsed - recovered_at == pytest.approx(30, abs=1)


# --- the worker leaves ----------------------------------------------------------------------------


@pytest.mark.parametrize("leave", ["stop", "cancel"])
async def test_worker_that_leaves_costs_no_stall(bunqueue: Bunqueue, leave: str):
    worker = bunqueue.worker("q", grace=1)

    @worker.handler
    async def hold(job: Job) -> None:
        await trio.sleep_forever()

    job_id = await bunqueue.client.push("q")
    for _ in range(5):
        async with trio.open_nursery() as nursery:
            worker = bunqueue.worker("q", grace=1)
            worker.handler(hold)
            nursery.start_soon(worker.run)
            await trio.sleep(1)
            assert await bunqueue.client.state(job_id) == "active"
            if leave == "stop":
                worker.stop()
            else:
                nursery.cancel_scope.cancel()
        await trio.sleep(0.1)
        assert await bunqueue.client.state(job_id) == "waiting"
    assert bunqueue.jobs[job_id].stalls == 0


@pytest.mark.parametrize("loss", ["kill", "cut"])
async def test_job_that_ends_its_workers_is_dead_after_the_fourth(bunqueue: Bunqueue, loss: str):
    runs: list[str] = []

    async def hold(job: Job) -> None:
        runs.append(job.id)
        await trio.sleep_forever()

    job_id = await bunqueue.client.push("q")
    for _ in range(4):
        worker = bunqueue.worker("q")
        worker.handler(hold)
        bunqueue.start(worker)
        await trio.sleep(1)
        if loss == "cut":
            for pipe, owner in list(bunqueue._lives.pipes.items()):
                if owner is worker:
                    pipe.cut()
        bunqueue.kill(worker)
        await trio.sleep(1)
    state = await bunqueue.client.look(job_id)
    assert (state.state, state.stalls, state.error) == ("failed", 4, "Job stalled 4 times")
    assert (await bunqueue.client.get(job_id)).attempts == 0
    assert runs == [job_id] * 4


# --- what is asked no more ------------------------------------------------------------------------


async def test_stopped_worker_takes_nothing_more(bunqueue: Bunqueue, nursery: trio.Nursery):
    """Its waiting pull stands first in line; another worker is idle."""
    runs: list[str] = []

    def work(name: str) -> Callable[[Job], Any]:
        async def handle(job: Job) -> None:
            runs.append(name)
            await trio.sleep(0 if job.data == "quick" else 30)

        return handle

    # A plain one: it has a pull open at the server, as over a socket.
    stopped = Worker("q", connect=bunqueue._place.connect, concurrency=2, grace=60)
    stopped.handler(work("stopped"))
    nursery.start_soon(stopped.run)
    await bunqueue.client.push("q", "slow")
    await trio.sleep(1)
    assert bunqueue.server.core.pulls_waiting == 1
    other = Worker("q", connect=bunqueue._place.connect)
    other.handler(work("other"))
    nursery.start_soon(other.run)
    await trio.sleep(1)
    stopped.stop()
    await trio.sleep(0.1)
    job_id = await bunqueue.client.push("q", "quick", timeout=5, max_attempts=1)
    assert await bunqueue.client.wait(job_id, 5) is None
    assert runs == ["stopped", "other"]
    other.stop()


@pytest.mark.slow
@pytest.mark.parametrize("leave", ["exit", "cancel"])
@on_both
async def test_goodbye_follows_a_message_that_has_begun(server: Server, queue: str, leave: str):
    """Half a frame would make the rest, the goodbye too, unreadable."""
    async with Client(ws(server)) as other:
        job_id = await other.push(queue)
        for _ in range(3):
            with anyio.CancelScope() as scope:
                async with Client(ws(server)) as client, anyio.create_task_group() as nursery:
                    assert await client.pull(queue, timeout=10)
                    nursery.start_soon(client.push, f"{queue}-large", "x" * 9_000_000)
                    await anyio.wait_all_tasks_blocked()
                    if leave == "cancel":
                        scope.cancel()
                    nursery.cancel_scope.cancel()
            with anyio.fail_after(PATIENCE_S):
                while (state := await other.look(job_id)).state != "waiting":  # noqa: ASYNC110 - nobody tells
                    await anyio.sleep(0.01)
            assert state.stalls == 0


async def test_server_that_stops_is_not_asked_again_and_again(bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch):
    """It answers each pull at once, and empty: whoever asked again at once would keep it busy, and from its end."""
    worker = bunqueue.worker("q")

    @worker.handler
    async def handle(job: Job) -> None:
        await trio.sleep(5)

    asked: list[float] = []
    begin = Core.begin

    def count(core: Core, command: c.Command, *rest: Any, **options: Any) -> Any:
        asked.extend([trio.current_time()] * isinstance(command, c.PullBatch))
        return begin(core, command, *rest, **options)

    bunqueue.start(worker)
    await bunqueue.client.push("q")
    await trio.sleep(1)
    monkeypatch.setattr(Core, "begin", count)
    await bunqueue.stop()
    assert len(asked) < 10
