"""Pulls that wait for nothing, 500 of one client: no other command, and no other pull, waits for them."""

from functools import partial

import anyio
import pytest
import trio

from bunqueue_trio.client import Client
from bunqueue_trio.client.client import IN_FLIGHT
from bunqueue_trio.commands import GetQueue, Pull
from bunqueue_trio.testing import Bunqueue
from tests.client.loops import on_both
from tests.client.test_real_server import ws
from tests.wire.server import Server


@pytest.mark.thorough
@on_both
async def test_a_pull_beside_them_waits_no_longer_than_its_timeout(server: Server, queue: str):
    over: list[int] = []

    async def wait_idly(client: Client) -> None:
        await client.pull(f"{queue}-idle", timeout=60)
        over.append(1)

    with anyio.fail_after(50):
        async with Client(ws(server)) as client, anyio.create_task_group() as tasks:
            for _ in range(IN_FLIGHT):
                tasks.start_soon(wait_idly, client)
            while (await client.run(GetQueue(queue=f"{queue}-idle"))).queue.pulls_waiting < IN_FLIGHT:  # noqa: ASYNC110 - nobody tells
                await anyio.sleep(0.01)
            assert await client.pull(queue, timeout=0.2) is None
            assert await client.pull_many(queue, 5, timeout=0.2) == []
            job_id = await client.push(queue)
            job = await client.pull(queue, timeout=40)
            assert job is not None
            assert job.id == job_id
            assert over == []
            tasks.cancel_scope.cancel()


async def test_a_job_that_comes_later_is_taken_within_a_second(bunqueue: Bunqueue, nursery: trio.Nursery):
    client = bunqueue.client
    for _ in range(IN_FLIGHT):
        nursery.start_soon(partial(client.pull, "idle", timeout=60))
    await trio.sleep(1)
    began = trio.current_time()
    assert await client.pull("q", timeout=5) is None
    assert (await client.run(Pull(queue="q", timeout=0))).job is None
    assert trio.current_time() == began + 5
    nursery.start_soon(partial(client.pull, "q", timeout=60))
    nursery.start_soon(partial(client.pull_many, "q", 2, timeout=60))
    nursery.start_soon(client.run, Pull(queue="q", timeout=60_000))
    await trio.sleep(10.2)
    ids = await client.push_many("q", [{"data": n} for n in range(4)])
    await trio.sleep(1)
    assert [await client.state(job_id) for job_id in ids] == ["active"] * 4
    await trio.sleep(60)
    assert client.connections == 1
    nursery.cancel_scope.cancel()


async def test_one_that_is_asked_again_after_a_cut_waits_no_longer(bunqueue: Bunqueue, nursery: trio.Nursery):
    began = trio.current_time()
    got: list[float] = []

    async def pull() -> None:
        assert await bunqueue.client.pull("q", timeout=30) is None
        got.append(trio.current_time() - began)

    nursery.start_soon(pull)
    for _ in range(3):
        await trio.sleep(8)
        bunqueue.cut()
    await trio.sleep(60)
    assert got == [pytest.approx(30, abs=0.01)]
