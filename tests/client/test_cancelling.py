"""Cancelling reaches the code of a handler, on both loops; what it says within the grace counts."""

from pathlib import Path

import anyio
import pytest

from bunqueue_trio import commands as c
from bunqueue_trio.client import Client, JobFailed, JobRemoved, Worker
from bunqueue_trio.sync import SyncClient
from bunqueue_trio.testing import Bunqueue
from tests.client.loops import on_both
from tests.wire.server import Server


@on_both
@pytest.mark.parametrize("how", [{}, {"reason": "wrong data"}, {"reason": "wrong data", "grace": 30}])
async def test_a_handler_that_is_blocked_ends_at_once(server: Server, queue: str, how: dict[str, object]):
    worker, began, ended = Worker(queue, server.url), anyio.Event(), anyio.Event()

    @worker.handler
    async def handle(job) -> None:
        began.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    async with Client(server.url) as client, anyio.create_task_group() as group:
        group.start_soon(worker.run)
        job_id = await client.push(queue)
        with anyio.fail_after(60):
            await began.wait()
        await client.run(c.GetState(id=job_id))
        await client.cancel(job_id, **how)  # type: ignore[arg-type]
        # How soon is judged by the virtual clock below.
        with anyio.fail_after(60):
            await ended.wait()
        if how:
            with pytest.raises(JobRemoved, match="Cancelled: wrong data"), anyio.fail_after(60):
                await client.wait(job_id)
        worker.stop()


async def test_within_a_tenth_of_a_second(bunqueue: Bunqueue):
    worker, ends = bunqueue.worker("q"), list[tuple[float, str]]()

    @worker.handler
    async def handle(job) -> None:
        try:
            await anyio.sleep_forever()
        except BaseException as cancelled:
            ends.append((bunqueue.elapsed, getattr(cancelled, "reason", "")))
            raise

    bunqueue.start(worker)
    job_id = await bunqueue.client.push("q")
    await anyio.sleep(5)
    await bunqueue.client.cancel(job_id, reason="wrong data", by="ann", grace=60)
    await anyio.sleep(0.1)
    assert ends == [(pytest.approx(5, abs=0.1), "the job was cancelled: wrong data")]
    seen = await bunqueue.client.look(job_id)
    assert (seen.state, seen.error) == ("failed", "Cancelled by ann: wrong data")
    assert (worker.running, (await bunqueue.client.get(job_id)).attempts) == (0, 0)


async def test_a_reason_reaches_the_handler_without_a_grace_too(bunqueue: Bunqueue):
    worker, said = bunqueue.worker("q"), list[str]()

    @worker.handler
    async def handle(job) -> None:
        try:
            await anyio.sleep_forever()
        except BaseException as cancelled:
            said.append(getattr(cancelled, "reason", ""))
            raise

    bunqueue.start(worker)
    job_id = await bunqueue.client.push("q")
    await anyio.sleep(1)
    await bunqueue.client.cancel(job_id, reason="wrong data")
    await anyio.sleep(1)
    assert said == ["the job was cancelled: wrong data"]


async def test_a_handler_that_cleans_up_in_time_has_done_its_job(bunqueue: Bunqueue):
    worker = bunqueue.worker("q")

    @worker.handler
    async def handle(job) -> str:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():  # noqa: ASYNC103 - what a handler may do
            with anyio.CancelScope(shield=True):
                await anyio.sleep(2)
        return "half"

    bunqueue.start(worker)
    job_id = await bunqueue.client.push("q")
    await anyio.sleep(1)
    await bunqueue.client.cancel(job_id, grace=10)
    assert await bunqueue.client.wait(job_id, 20) == "half"


async def test_one_that_raises_when_it_is_cancelled_says_what(bunqueue: Bunqueue):
    worker = bunqueue.worker("q")

    @worker.handler
    async def handle(job) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise ValueError("cannot undo")

    bunqueue.start(worker)
    job_id = await bunqueue.client.push("q")
    await anyio.sleep(1)
    await bunqueue.client.cancel(job_id, reason="no", grace=10)
    with pytest.raises(JobRemoved, match=r"Cancelled: no\nValueError: cannot undo"):
        await bunqueue.client.wait(job_id, 20)


async def test_one_that_does_not_end_in_time_is_over(bunqueue: Bunqueue):
    worker = bunqueue.worker("q")

    @worker.handler
    async def handle(job) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(100)

    bunqueue.start(worker)
    job_id = await bunqueue.client.push("q")
    await anyio.sleep(1)
    await bunqueue.client.cancel(job_id, grace=10)
    await anyio.sleep(9)
    assert await bunqueue.client.state(job_id) == "active"
    await anyio.sleep(1.1)
    assert (await bunqueue.client.look(job_id)).error == "Cancelled"


async def test_a_worker_that_was_cut_off_hears_of_it_when_it_is_back(bunqueue: Bunqueue):
    """What happened while the server was down, or nobody listened, is asked for."""
    worker, ended = bunqueue.worker("q"), list[float]()

    @worker.handler
    async def handle(job) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(bunqueue.elapsed)

    bunqueue.start(worker)
    job_id = await bunqueue.client.push("q")
    await anyio.sleep(1)
    await bunqueue.client.cancel(job_id, grace=3600)
    await bunqueue.crash()
    await bunqueue.recover()
    await anyio.sleep(30)
    assert ended
    with pytest.raises(JobFailed, match="Cancelled"):
        await bunqueue.client.wait(job_id, 1)


def test_a_client_that_blocks_is_seen_by_its_heartbeat(server: Server, queue: str):
    with SyncClient(server.url) as client:
        client.push(queue)
        job = client.pull(queue)
        assert job is not None
        assert job.heartbeat()
        client.cancel(job.id, reason="no", by="ann", grace=60)
        assert not job.heartbeat()
        job.fail("undone")
        with pytest.raises(JobRemoved, match="Cancelled by ann: no\nundone"):
            client.wait(job.id)


@pytest.mark.slow
def test_a_cancellation_that_was_answered_is_not_forgotten_by_a_kill(tmp_path: Path):
    with Server(tmp_path / "q.db") as server, SyncClient(server.url) as client:
        job_id = client.push("q")
        job = client.pull("q")
        assert job is not None
        client.cancel(job_id, reason="no", grace=3600)
        server.kill()
    with Server(tmp_path / "q.db") as server, SyncClient(server.url) as client:
        assert not client.heartbeat(job_id, token=job.token)
        client.release(job_id, token=job.token)
        with pytest.raises(JobRemoved, match="Cancelled: no"):
            client.wait(job_id)
