"""What a handler says beside its outcome costs no attempt, whatever it is and whatever the server makes of it for now."""

from typing import Any

import pytest
import trio

from bunqueue_trio.client import Again, Client, Job
from bunqueue_trio.commands import GetLogs
from bunqueue_trio.errors import OVERLOADED, ServerUnavailable
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.sync import SyncClient
from bunqueue_trio.testing import Bunqueue
from tests.client.loops import on_both
from tests.client.test_failures import refusing
from tests.client.test_real_server import ws
from tests.wire.server import Server

HUGE = "a" + "x" * 12_000_000  # more than a message may have


async def tell_all(job: Any) -> None:
    for percent in (140, -1, float("nan"), 100.001):
        await job.progress(percent)
    await job.progress(5, HUGE)
    await job.progress(100, {"step": 1})
    await job.extend_lock("5m")
    await job.log(HUGE)
    await job.log(None)
    await job.log(ValueError("no"))


async def test_in_virtual_time(bunqueue: Bunqueue):
    worker = bunqueue.worker("q")

    @worker.handler
    async def handle(job: Job) -> str:
        await tell_all(job)
        return "done"

    bunqueue.start(worker)
    job_id = await bunqueue.client.push("q", max_attempts=1)
    assert await bunqueue.client.wait(job_id, "1m") == "done"
    assert (await bunqueue.client.get(job_id)).progress == 100
    lines = (await bunqueue.client.run(GetLogs(id=job_id))).data.logs
    assert [line.message[:2] for line in lines] == ["ax", "", "no"]


@on_both
async def test_on_either_loop_and_without_one(server: Server, queue: str):
    async with Client(ws(server)) as client:
        await client.push_many(queue, [{}, {}])
        job = await client.pull(queue, timeout="10s", lease="1m")
        assert job is not None
        await tell_all(job)
        await job.fail(HUGE, retry_in="1h", stack=HUGE)
        with SyncClient(server.url, timeout="1m") as sync:
            held = sync.pull(queue, timeout="1s", lease="1m")
            assert held is not None
            held.progress(140, HUGE)
            held.extend_lock("5m")
            held.log(HUGE)
            assert held.heartbeat("30s")
            held.fail(HUGE, retry_in="1h", stack=HUGE)


@pytest.mark.parametrize("refused", [c.Progress, c.AddLog])
async def test_a_handler_waits_for_a_server_that_takes_nothing_now(
    bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch, refused: type[c.Command]
):
    full = True
    refusing(monkeypatch, lambda command: OVERLOADED.refuse() if full and isinstance(command, refused) else None)
    worker = bunqueue.worker("q")

    @worker.handler
    async def handle(job: Job) -> str:
        await job.progress(50)
        await job.log("half way")
        return "done"

    bunqueue.start(worker)
    job_id = await bunqueue.client.push("q", max_attempts=1)
    await trio.sleep(100)
    assert await bunqueue.client.state(job_id) == "active"
    full = False
    assert await bunqueue.client.wait(job_id, "5s") == "done"
    [line] = (await bunqueue.client.run(GetLogs(id=job_id))).data.logs
    assert line.message == "half way"
    full = True
    await bunqueue.client.push("other")
    held = await bunqueue.client.pull("other")
    assert held is not None
    # Who holds a job without a worker decides for itself.
    with pytest.raises(ServerUnavailable):
        await (held.progress(1) if refused is c.Progress else held.log("one"))


async def test_again_takes_the_times_that_all_else_takes(bunqueue: Bunqueue):
    worker = bunqueue.worker("q")

    @worker.handler
    async def handle(job: Job) -> float:
        if job.attempt == 1:
            raise Again(after="1m")
        return bunqueue.elapsed

    bunqueue.start(worker)
    job_id = await bunqueue.client.push("q")
    assert await bunqueue.client.wait(job_id, "2m") == pytest.approx(60, abs=1)
