"""What a worker tells of a job beside its outcome: the stack of a failure, and lines of its log."""

import anyio
import pytest

from bunqueue_trio.client import Client, Job, JobFailed, Worker
from bunqueue_trio.commands import GetAttempts, GetLogs
from bunqueue_trio.errors import Refused
from bunqueue_trio.sync import SyncClient
from tests.client.loops import on_both
from tests.client.test_real_server import ws
from tests.wire.server import Server


def fall() -> None:
    raise ValueError("no such month")


@on_both
async def test_a_worker_sends_the_stack_of_a_failure(server: Server, queue: str):
    worker = Worker(queue, ws(server))

    @worker.handler
    async def handle(job: Job) -> None:
        await job.log("half way")
        await job.log("careful", "warn")
        fall()

    async with Client(ws(server)) as client, anyio.create_task_group() as nursery:
        nursery.start_soon(worker.run)
        job_id = await client.push(queue, max_attempts=1)
        with pytest.raises(JobFailed):
            await client.wait(job_id, 60)
        worker.stop()
        [attempt] = (await client.run(GetAttempts(id=job_id))).attempts
        assert attempt.error == "ValueError: no such month"
        assert attempt.stack is not None
        assert attempt.stack.startswith("Traceback (most recent call last):")
        assert "in fall" in attempt.stack
        assert attempt.stack.endswith("ValueError: no such month")
        assert attempt.by is not None
        lines = (await client.run(GetLogs(id=job_id))).data.logs
        assert [(line.level, line.message) for line in lines] == [("info", "half way"), ("warn", "careful")]


@on_both
async def test_a_job_in_hand_is_logged_and_failed_with_a_stack(server: Server, queue: str):
    async with Client(ws(server)) as client:
        job_id = await client.push(queue)
        job = await client.pull(queue, timeout=60)
        assert job is not None
        await job.log("mine")
        assert job.log.bind(more=1) is not None
        await job.fail("no", stack="line 1")
        [attempt] = (await client.run(GetAttempts(id=job_id))).attempts
        assert (attempt.error, attempt.stack) == ("no", "line 1")
        await client.cancel(job_id)
        with pytest.raises(Refused, match="Job not found"):
            await job.log("late")


def test_the_client_without_trio_does_the_same(server: Server, queue: str):
    with SyncClient(server.url) as client:
        job_id = client.push(queue)
        job = client.pull(queue, timeout=60)
        assert job is not None
        job.log("mine", "error")
        job.fail("no", stack="line 1")
        [attempt] = client.run(GetAttempts(id=job_id)).attempts
        assert (attempt.error, attempt.stack, attempt.by) == ("no", "line 1", "@127.0.0.1")
        [line] = client.run(GetLogs(id=job_id)).data.logs
        assert (line.level, line.message) == ("error", "mine")
