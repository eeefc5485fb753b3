"""What a handler does to the job object that it was given changes nothing of what is said of its job, and ends no worker."""

import math
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import pytest

from bunqueue_trio.client import Client, Job, JobFailed, Worker
from bunqueue_trio.testing import Bunqueue
from tests.client.loops import on_both
from tests.client.test_real_server import ws
from tests.wire.server import Server

PUBLIC = sorted(name for name in {*dir(Job), *Job.__annotations__, "client"} if not name.startswith("_"))
"""Of a job: what it knows, and what can be called."""
VALUES: list[Any] = [None, 5, "", "other", math.nan, object(), b"\xff", "\udce9"]


def put(name: str, value: Any, job: Job) -> None:
    setattr(job, name, value)


def delete(name: str, job: Job) -> None:
    delattr(job, name)


def empty(job: Job) -> None:
    vars(job).clear()


CHANGES: list[Callable[[Job], None]] = [
    *(partial(put, name, value) for name in PUBLIC for value in VALUES),
    *(partial(delete, name) for name in PUBLIC),
    empty,
]


async def test_all_that_is_public_is_changed(bunqueue: Bunqueue):
    await bunqueue.client.push("q")
    job = await bunqueue.client.pull("q")
    assert {name for name in vars(job) if not name.startswith("_")} <= set(PUBLIC)
    assert {"id", "token", "data", "ended", "ack"} <= set(PUBLIC)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["async", "sync"])
@on_both
async def test_what_is_said_of_a_job_is_said_of_the_one_that_was_delivered(server: Server, queue: str, kind: str):
    worker = Worker(queue, ws(server), concurrency=50)

    def work(job: Job) -> Any:
        (number, how), job_id = job.data, job.id
        # What can only be read says so.
        with suppress(AttributeError):
            CHANGES[number](job)
        if how == "fails":
            raise ValueError(job_id)
        return job_id

    async def work_async(job: Job) -> Any:
        return work(job)

    worker.handler(work if kind == "sync" else work_async)
    async with Client(ws(server)) as client, anyio.create_task_group() as running:
        running.start_soon(worker.run)
        asked = [(number, how) for number in range(len(CHANGES)) for how in ("returns", "fails")]
        ids = await client.push_many(queue, [{"data": each, "max_attempts": 1} for each in asked])
        with anyio.fail_after(60):
            for (_, how), job_id in zip(asked, ids, strict=True):
                if how == "returns":
                    assert await client.wait(job_id, 60) == job_id
                else:
                    with pytest.raises(JobFailed, match=f"ValueError: {job_id}"):
                        await client.wait(job_id, 60)
        worker.stop()


@on_both
async def test_what_a_handler_ends_itself_is_the_job_that_it_was_given(server: Server, queue: str):
    """Also where it has made it look like another one, which is under way, too."""
    worker, jobs = Worker(queue, ws(server), concurrency=2), list[Job]()
    together = anyio.Event()

    @worker.handler
    async def handle(job: Job) -> None:
        jobs.append(job)
        if len(jobs) == 1:
            await together.wait()
            raise ValueError("not done")
        job.id, job.token = jobs[0].id, jobs[0].token
        await job.progress(50)
        await job.log("half way")
        await job.extend_lock(60)
        await job.ack("done")
        together.set()

    async with Client(ws(server)) as client, anyio.create_task_group() as running:
        running.start_soon(worker.run)
        with anyio.fail_after(60):
            first = await client.push(queue, max_attempts=1)
            while not jobs:  # noqa: ASYNC110 - nobody tells
                await anyio.sleep(0.01)
            second = await client.push(queue, max_attempts=1)
            assert await client.wait(second, 60) == "done"
            with pytest.raises(JobFailed, match="not done"):
                await client.wait(first, 60)
            assert [(await client.get(job_id)).progress for job_id in (first, second)] == [0, 50]
        worker.stop()


async def test_a_job_that_has_changed_is_cancelled_and_renewed_as_any_other(bunqueue: Bunqueue):
    worker = bunqueue.worker("q")

    @worker.handler
    async def hold(job: Job) -> None:
        empty(job)
        await anyio.sleep_forever()

    bunqueue.start(worker)
    job_id = await bunqueue.client.push("q")
    # Longer than its lease.
    await anyio.sleep(400)
    assert (await bunqueue.client.look(job_id)).state == "active"
    await bunqueue.client.cancel(job_id, reason="wrong", grace=30)
    await anyio.sleep(1)
    assert (await bunqueue.client.look(job_id)).state == "failed"
    assert worker.running == 0


@on_both
async def test_a_thread_that_has_changed_its_job_is_left_as_any_other(server: Server, queue: str):
    worker, over = Worker(queue, ws(server), concurrency=2), threading.Event()

    @worker.handler
    def hang(job: Job) -> None:
        empty(job)
        over.wait(60)

    async with Client(ws(server)) as client, anyio.create_task_group() as running:
        worker.timeout = 0.2
        running.start_soon(worker.run)
        with anyio.fail_after(60):
            job_id = await client.push(queue, max_attempts=1)
            with pytest.raises(JobFailed, match="timed out"):
                await client.wait(job_id, 60)
        assert worker.hung == 1
        over.set()
        worker.stop()
