"""A worker of ours says who it is, at each connection, and does what an operator asks of it."""

import os
from platform import node

import anyio

from bunqueue_trio import commands as c
from bunqueue_trio.client import Client, Worker
from bunqueue_trio.sync import SyncClient
from bunqueue_trio.testing import Bunqueue
from tests.client.loops import on_both
from tests.wire.server import Server


async def known(client: Client, worker_id: str) -> c.WorkerView | None:
    workers = (await client.run(c.ListWorkers(limit=1000))).data.workers
    return next((worker for worker in workers if worker.id == worker_id), None)


@on_both
async def test_a_worker_is_known_while_it_works(server: Server, queue: str):
    worker = Worker(queue, server.url, concurrency=3)
    release = anyio.Event()

    @worker.handler
    async def handle(job) -> None:
        await release.wait()

    async with Client(server.url) as client, anyio.create_task_group() as group:
        group.start_soon(worker.run)
        ids = [await client.push(queue) for _ in range(2)]
        with anyio.fail_after(60):
            while (seen := await known(client, worker.id)) is None or seen.active_jobs < 2:  # noqa: ASYNC110 - it says so itself
                await anyio.sleep(0.02)
        assert (seen.name, seen.hostname, seen.pid, seen.queues, seen.concurrency, seen.transport) == (
            f"{node()}-{os.getpid()}", node(), os.getpid(), [queue], 3, "websocket",
        )  # fmt: skip
        assert seen.version.startswith("bunqueue-trio ")
        assert sorted(job.id for job in seen.jobs) == sorted(ids)
        assert seen.address is not None
        release.set()
        worker.stop()
    async with Client(server.url) as client:
        with anyio.fail_after(60):
            while await known(client, worker.id) is not None:  # noqa: ASYNC110
                await anyio.sleep(0.02)


async def test_it_is_the_same_after_a_cut(bunqueue: Bunqueue):
    worker = bunqueue.worker("q")
    worker.handler(lambda job: None)
    bunqueue.start(worker)
    await bunqueue.client.wait(await bunqueue.client.push("q"), 10)
    await bunqueue.client.run(c.QuietWorker(id=worker.id))
    bunqueue.cut()
    job_id = await bunqueue.client.push("q")
    await anyio.sleep(30)
    assert await bunqueue.client.state(job_id) == "waiting"
    seen = await known(bunqueue.client, worker.id)
    assert seen is not None
    assert (seen.status, seen.processed_jobs) == ("quiet", 1)
    await bunqueue.client.run(c.UnquietWorker(id=worker.id))
    await bunqueue.client.wait(job_id, 10)
    await bunqueue.crash()
    await bunqueue.recover()
    await bunqueue.client.wait(await bunqueue.client.push("q"), 60)
    assert await known(bunqueue.client, worker.id) is not None


def test_a_client_that_blocks_is_known_by_what_it_says(server: Server, queue: str):
    with SyncClient(server.url) as client:
        me = client.introduce("importer", queues=[queue], concurrency=2)
        assert client.introduce("importer", queues=[queue]) == me
        ids = [client.push(queue) for _ in range(2)]
        first, second = client.pull(queue), client.pull_many(queue, 1)
        assert first is not None
        seen = {worker.id: worker for worker in client.run(c.ListWorkers(limit=1000)).data.workers}[me]
        assert [job.id for job in seen.jobs] == ids == [first.id, second[0].id]
        assert (seen.name, seen.transport, seen.pid) == ("importer", "http", os.getpid())
