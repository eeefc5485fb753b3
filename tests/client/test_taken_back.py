"""Pulls that are taken back, and what raises a cancellation: on Trio, on asyncio, and by asyncio's own ways to cancel."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from bunqueue_trio.client import Client, Job, JobFailed, Worker
from bunqueue_trio.client.handlers import Threads
from tests.client.loops import on_both
from tests.client.test_real_server import ws
from tests.patience import PATIENCE_S
from tests.wire.server import Server

Pull = Callable[[], Awaitable[Job | None]]


async def turns(n: int) -> None:
    for _ in range(n):
        await anyio.lowlevel.checkpoint()


async def by_scope(pull: Pull, moment: int) -> Job | None:
    """Cancelled by a scope around it."""
    taken: list[Job | None] = [None]

    async def run(scope: anyio.CancelScope) -> None:
        with scope:
            taken[0] = await pull()

    scope = anyio.CancelScope()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, scope)
        await turns(moment)
        scope.cancel()
    return taken[0]


async def by_task(pull: Pull, moment: int) -> Job | None:
    """Cancelled as asyncio does it, once."""
    task = asyncio.ensure_future(pull())
    await turns(moment)
    task.cancel()
    await asyncio.wait({task})
    return None if task.cancelled() else task.result()


async def pulls_taken_back(server: Server, queue: str, cancelled: Callable[[Pull, int], Awaitable[Job | None]]) -> None:
    async with Client(ws(server)) as client, Client(ws(server)) as other:
        await client.ping()
        taken = 0
        for push_first in (True, False):
            for moment in range(0, 60, 5):
                async with anyio.create_task_group() as tasks:
                    if push_first:
                        tasks.start_soon(other.push, queue)
                    job = await cancelled(lambda: client.pull(queue, timeout=30), moment)
                    if not push_first:
                        tasks.start_soon(other.push, queue)
                if job is None:
                    await client.ping()
                    job = await other.pull(queue, timeout=20)
                    assert job is not None, "one that went to the pull comes back"
                else:
                    taken += 1
                state = await other.look(job.id)
                assert (job.attempts, state.stalls) == (0, 0)
                await job.ack()


@on_both
async def test_pull_that_is_cancelled_at_any_moment_costs_no_job(server: Server, queue: str):
    await pulls_taken_back(server, queue, by_scope)


def test_pull_whose_task_is_cancelled_at_any_moment_costs_no_job(server: Server, queue: str):
    asyncio.run(pulls_taken_back(server, queue, by_task))


async def outcomes(server: Server, queue: str, handler: Callable[[Job], Awaitable[Any]], **options: Any) -> Any:
    """Return how a job ends whose handler this is; another one is well after it."""
    worker = Worker(queue, ws(server), concurrency=1, **options)

    @worker.handler
    async def handle(job: Job) -> Any:
        return "well" if job.data == "well" else await handler(job)

    outcome: Any = None
    async with Client(ws(server)) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        odd, well = await client.push_many(queue, [{"max_attempts": 1}, {"data": "well"}])
        try:
            outcome = await client.wait(odd, PATIENCE_S)
        except JobFailed as failed:
            outcome = str(failed)
        assert await client.wait(well, PATIENCE_S) == "well"
        worker.stop()
    return outcome


def test_handler_that_raises_a_cancellation_of_its_own_has_failed(server: Server, queue: str):
    """Nobody cancels the worker: a task that the handler waits for was cancelled."""

    async def handle(job: Job) -> None:
        task = asyncio.ensure_future(asyncio.sleep(60))
        asyncio.get_running_loop().call_soon(task.cancel)
        await task

    assert "CancelledError" in asyncio.run(outcomes(server, queue, handle))


@pytest.mark.parametrize("then", ["waits", "returns"])
def test_handler_that_cancels_its_own_task_costs_no_worker(server: Server, queue: str, then: str):
    """What ends as cancelled ends all that it is part of: the worker was over, without a word."""

    async def handle(job: Job) -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        if then == "waits":
            await asyncio.sleep(60)
        return "done all the same"

    outcome = asyncio.run(outcomes(server, queue, handle))
    assert outcome == ("CancelledError" if then == "waits" else "done all the same")


def test_handler_may_use_the_time_limits_of_asyncio(server: Server, queue: str):
    async def handle(job: Job) -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(60)
        except TimeoutError:
            async with asyncio.TaskGroup() as group:
                for _ in range(2):
                    group.create_task(asyncio.sleep(0))
            return "in time"
        return "too late"

    assert asyncio.run(outcomes(server, queue, handle)) == "in time"


@pytest.mark.slow
@on_both
async def test_handler_is_cancelled_after_its_time(server: Server, queue: str):
    async def handle(job: Job) -> None:
        await anyio.sleep_forever()

    assert "Handler timed out after 0.5 s" in await outcomes(server, queue, handle, timeout=0.5)


async def working(server: Server, queue: str, client: Client) -> tuple[Worker, str, anyio.Event]:
    worker, begun = Worker(queue, ws(server), grace=0.01), anyio.Event()

    @worker.handler
    async def hold(job: Job) -> None:
        begun.set()
        await anyio.sleep_forever()

    return worker, await client.push(queue), begun


async def given_back(client: Client, job_id: str) -> None:
    with anyio.fail_after(60):
        while (state := await client.look(job_id)).state != "waiting":  # noqa: ASYNC110 - nobody tells
            await anyio.sleep(0.01)
    assert state.stalls == 0
    assert (await client.get(job_id)).attempts == 0


@pytest.mark.parametrize("leave", ["stop", "cancel"])
@on_both
async def test_worker_that_leaves_costs_no_job(server: Server, queue: str, leave: str):
    async with Client(ws(server)) as client:
        worker, job_id, begun = await working(server, queue, client)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.run)
            await begun.wait()
            if leave == "stop":
                worker.stop()
            else:
                tasks.cancel_scope.cancel()
        await given_back(client, job_id)


def test_worker_whose_task_is_cancelled_costs_no_job(server: Server, queue: str):
    async def main() -> None:
        async with Client(ws(server)) as client:
            worker, job_id, begun = await working(server, queue, client)
            before = len(asyncio.all_tasks())
            task = asyncio.ensure_future(worker.run())
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await given_back(client, job_id)
            assert len(asyncio.all_tasks()) == before

    asyncio.run(main())


@pytest.mark.parametrize("moment", range(4))
@on_both
async def test_thread_that_is_left_before_it_begins_keeps_no_slot(server: Server, queue: str, moment: int):
    """It runs no handler, either; one that has begun is counted until it ends."""
    threads, runs, over = Threads(lambda: None), list[Job](), threading.Event()

    def handle(job: Job) -> None:
        runs.append(job)
        over.wait(60)

    async with Client(ws(server)) as client:
        await client.push(queue)
        job = await client.pull(queue, timeout=20)
        assert job is not None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(threads.run, handle, job)
            await turns(moment)
            tasks.cancel_scope.cancel()
        left = threads.left
        over.set()
        with anyio.fail_after(60):
            while threads.left:  # noqa: ASYNC110 - nobody tells
                await anyio.sleep(0.01)
        assert left == len(runs)


@on_both
async def test_time_out_of_a_wait_is_caught_by_either_name(server: Server, queue: str):
    async with Client(ws(server)) as client:
        job_id = await client.push(queue)
        with pytest.raises(TimeoutError, match=f"job {job_id} of queue {queue} is waiting"):
            await client.wait(job_id, 0.01)


@on_both
async def test_events_and_their_end(server: Server, queue: str):
    """Whoever reads them sees the end of the client as the end."""
    heard: list[str] = []

    async def read(client: Client) -> None:
        async with client.events("pushed", "completed") as events:
            begun.set()
            heard.extend([event.event_type async for event in events])

    begun = anyio.Event()
    async with anyio.create_task_group() as tasks, Client(ws(server), queue=queue) as client:
        tasks.start_soon(read, client)  # noqa: ASYNC111 - it outlives the client, which is the point
        await begun.wait()
        job_id = await client.push(queue)
        job = await client.pull(queue, timeout=20)
        assert job is not None
        await job.ack("done")
        assert await client.wait(job_id, PATIENCE_S) == "done"
    assert heard == ["pushed", "completed"]
