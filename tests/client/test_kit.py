"""The test kit in virtual time: who goes to its server, what a wait says, and what time does beside threads."""

import threading
import time
from collections.abc import MutableMapping
from typing import Any

import anyio
import pytest
import trio
import trio.testing

from bunqueue_trio import App, Client, Job, Worker
from bunqueue_trio.protocol.standin import STAND_INS
from bunqueue_trio.sync import SyncClient
from bunqueue_trio.testing import Bunqueue
from bunqueue_trio.testing import idle as idle_module
from bunqueue_trio.testing.client import event_stream, http_peer, ws_peer

REAL = "ws://queue.example:6790"  # nobody is to look for it
worker_of_a_module = Worker("reports", REAL)
client_of_a_module = Client(REAL)
app_of_a_module = App(REAL)


@worker_of_a_module.handler
async def build(job: Job) -> Any:
    await trio.sleep(60)
    return await job.push("follow-ups", job.data)


@app_of_a_module.handler("letters")
async def write(job: Job) -> str:
    async with client_of_a_module as client:
        return f"{job.data} after {await client.push('stamps', 1, job_id=f'{job.id}-stamp')}"


@pytest.mark.parametrize("again", [1, 2])
async def test_workers_and_clients_of_modules_go_to_the_test_server(bunqueue: Bunqueue, again: int):
    """Twice, since each test has a run of its own, and the worker is the same."""
    bunqueue.start(worker_of_a_module)
    bunqueue.start(app_of_a_module)
    async with client_of_a_module as client:
        report = await client.push("reports", again)
        follow_up = await client.wait(report)
        assert (await client.get(follow_up)).data == again
    assert bunqueue.elapsed >= 60
    letter = await bunqueue.client.push("letters", "dear Ada", job_id="letter")
    assert await bunqueue.client.wait(letter) == "dear Ada after letter-stamp"
    worker_of_a_module.stop()
    await trio.sleep(1)


async def test_killed_worker_of_a_module_can_be_started_again(bunqueue: Bunqueue):
    job_id = await bunqueue.client.push("reports", 1)
    bunqueue.start(worker_of_a_module)
    await trio.sleep(1)
    bunqueue.kill(worker_of_a_module)
    await trio.sleep(1)
    assert bunqueue.jobs[job_id].stalls == 1
    bunqueue.start(worker_of_a_module)
    await bunqueue.client.wait(job_id)


async def test_same_worker_does_not_run_twice_at_once(bunqueue: Bunqueue, nursery: trio.Nursery):
    bunqueue.start(worker_of_a_module)
    await trio.sleep(1)
    with pytest.raises(RuntimeError, match="runs already"):
        await worker_of_a_module.run()


async def test_newest_server_counts(bunqueue: Bunqueue):
    async with Bunqueue() as newer, Client(REAL) as client:
        job_id = await client.push("q")
        assert job_id in newer.jobs
        assert not bunqueue.jobs
        await bunqueue.client.push("q")
        assert len(newer.jobs) == len(bunqueue.jobs) == 1
    async with Client(REAL) as client:
        await client.push("q")
    assert len(bunqueue.jobs) == 2


async def test_client_without_a_loop_goes_there_from_a_thread(bunqueue: Bunqueue):
    worker = bunqueue.worker("q")

    @worker.handler
    async def handle(job: Job) -> Any:
        await trio.sleep(3600)
        return job.data

    bunqueue.start(worker)

    def work() -> Any:
        with SyncClient(REAL) as client:
            job_id = client.push("q", "hour")
            result = client.wait(job_id)
            with client.events("pushed") as events:
                client.push("idle", 1)
                assert next(events).queue == "idle"
            mine = client.pull("idle", timeout=5)
            assert mine is not None
            mine.ack("by hand")
            assert client.pull("idle", timeout=5) is None
            with pytest.raises(TimeoutError, match=r"is waiting for good.*Nobody asks for jobs of this queue"):
                client.wait(client.push("nobody"))
            return result

    assert await trio.to_thread.run_sync(work) == "hour"
    assert 3600 < bunqueue.elapsed < 4000


async def test_client_without_a_loop_that_would_block_the_server_says_so(bunqueue: Bunqueue):
    with pytest.raises(RuntimeError, match=r"trio\.to_thread\.run_sync"):
        SyncClient().push("q")


async def test_what_cannot_go_there_is_refused(bunqueue: Bunqueue):
    for connect in (http_peer, ws_peer, event_stream):
        with pytest.raises(RuntimeError, match=f"{REAL} would be a real server.*Bunqueue"):
            async with connect(REAL):
                pass


def test_nothing_is_refused_without_a_test_server():
    assert STAND_INS.current is None
    STAND_INS.refuse_real(REAL)


# --- waits ----------------------------------------------------------------------------------------


async def test_wait_for_a_job_that_nobody_takes_ends_at_once(bunqueue: Bunqueue):
    worker = bunqueue.worker("reports")
    worker.handler(build)
    bunqueue.start(worker)
    job_id = await bunqueue.client.push("report")
    told = f"job {job_id} of queue report is waiting for good, since nothing is left that could happen: Nobody asks"
    with pytest.raises(TimeoutError, match=told):
        await bunqueue.client.wait(job_id)
    assert bunqueue.elapsed < 1


async def test_wait_for_a_handler_that_hangs_ends_at_once(bunqueue: Bunqueue):
    """Its lease is renewed for ever: nothing comes of that."""
    worker = bunqueue.worker("q")

    @worker.handler
    async def hang(job: Job) -> None:
        await trio.sleep_forever()

    bunqueue.start(worker)
    job_id = await bunqueue.client.push("q")
    with pytest.raises(TimeoutError, match=r"of queue q is active for good.*: Worker .* has had it for"):
        await bunqueue.client.wait(job_id)
    assert bunqueue.elapsed < 60


async def test_wait_for_what_depends_on_nothing_says_what_it_waits_for(bunqueue: Bunqueue):
    parent = await bunqueue.client.push("q", job_id="parent")
    child = await bunqueue.client.push("q", depends_on=[parent])
    with pytest.raises(TimeoutError, match=r"is waiting-children for good.*: It waits for parent to complete"):
        await bunqueue.client.wait(child)


async def test_wait_for_a_server_that_is_down_ends_at_once(bunqueue: Bunqueue, nursery: trio.Nursery):
    """Its client looks for a server for ever: nothing comes of that."""
    job_id = await bunqueue.client.push("q")
    ended, told = trio.Event(), ""

    async def wait() -> None:
        nonlocal told
        with pytest.raises(TimeoutError) as caught:
            await bunqueue.client.wait(job_id)
        told = str(caught.value)
        ended.set()

    nursery.start_soon(wait)
    await trio.sleep(1)
    await bunqueue.crash()
    await ended.wait()
    assert told.endswith("is waiting for good, since nothing is left that could happen, and the server is down")
    assert bunqueue.elapsed < 60


async def test_wait_goes_on_while_the_test_may_still_do_something(bunqueue: Bunqueue, nursery: trio.Nursery):
    job_id = await bunqueue.client.push("q")
    results: list[Any] = []

    async def wait() -> None:
        results.append(await bunqueue.client.wait(job_id))

    nursery.start_soon(wait)
    await trio.sleep(86_400)
    job = await bunqueue.client.pull("q")
    assert job is not None
    await job.ack("late")
    await trio.sleep(1)
    assert results == ["late"]


# --- threads --------------------------------------------------------------------------------------


async def test_time_stands_still_while_a_handler_is_in_its_thread(bunqueue: Bunqueue):
    """However long that takes: a limit of a virtual second is not over."""
    worker = bunqueue.worker("q", timeout=1)

    @worker.handler
    def handle(job: Job) -> str:
        time.sleep(0.1)
        anyio.from_thread.run(job.progress, 50)
        return threading.current_thread().name

    bunqueue.start(worker)
    job_id = await bunqueue.client.push("q", max_attempts=1)
    with trio.fail_after(0.5):
        assert await bunqueue.client.wait(job_id) != threading.current_thread().name
    assert bunqueue.elapsed < 0.1


async def test_thread_that_hangs_does_not_stop_time_for_ever(
    bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch, logs: list[MutableMapping[str, Any]]
):
    monkeypatch.setattr(idle_module, "THREADS_S", 0.05)
    worker, ended = bunqueue.worker("q", timeout=60), threading.Event()
    worker.handler(lambda job: ended.wait(60))
    bunqueue.start(worker)
    job_id = await bunqueue.client.push("q", max_attempts=1)
    try:
        with pytest.raises(Exception, match="Handler timed out after 60 s"):
            await bunqueue.client.wait(job_id)
    finally:
        ended.set()
    assert "virtual time goes on without a thread" in [line["event"] for line in logs]


# --- what is said ---------------------------------------------------------------------------------


async def test_end_of_a_test_says_nothing(autojump_clock: trio.testing.MockClock, logs: list[MutableMapping[str, Any]]):
    """A failed test has its own trouble: that its server has gone is not the reason."""

    async def failing() -> None:
        async with Bunqueue() as bunqueue:
            bunqueue.start(worker_of_a_module)
            bunqueue.start(app_of_a_module)
            await bunqueue.client.push("reports")
            await trio.sleep(1)
            raise ValueError("the test's own")

    with pytest.raises(ValueError, match="the test's own"):
        await failing()
    assert [line for line in logs if "connection" in line["event"]] == []


async def test_worker_pulls_as_it_does_in_earnest(bunqueue: Bunqueue):
    """There is an open pull at the server, and a stop takes it back."""
    worker = bunqueue.worker("q")
    worker.handler(build)
    bunqueue.start(worker)
    await trio.sleep(3600)
    assert bunqueue.server.core.pulls_waiting == 1
    worker.stop()
    await trio.sleep(0.1)
    assert bunqueue.server.core.pulls_waiting == 0


@pytest.mark.trio
async def test_a_mark_that_says_no_more_than_trio_leaves_it_in_virtual_time(bunqueue: Bunqueue):
    await trio.sleep(30 * 86_400)
    assert isinstance(trio.lowlevel.current_clock(), trio.testing.MockClock)
