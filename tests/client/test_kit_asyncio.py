"""The test kit without virtual time: for tests on asyncio, and for those without a loop."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from bunqueue_trio import App, Client, ConnectionLost, Job, JobFailed, ServerUnavailable, Worker
from bunqueue_trio.protocol.standin import STAND_INS
from bunqueue_trio.sync import SyncClient
from bunqueue_trio.testing import Bunqueue
from tests.client.loops import on_both

# Each starts a pytest of its own.
pytestmark = pytest.mark.thorough

REAL = "ws://queue.example:6790"  # nobody is to look for it
worker_of_a_module = Worker("reports", REAL, loop="asyncio")
client_of_a_module = Client(REAL)


@worker_of_a_module.handler
async def build(job: Job) -> Any:
    await asyncio.sleep(0)
    await job.push("follow-ups", job.data, job_id=f"{job.id}-next")
    return f"report of {job.data}"


@pytest.mark.parametrize("again", [1, 2])
def test_workers_and_clients_of_modules_go_to_the_test_server(again: int):
    """Twice, each time on a loop of its own."""

    async def main() -> None:
        async with Bunqueue() as bunqueue, client_of_a_module as client:
            bunqueue.start(worker_of_a_module)
            job_id = await client.push("reports", again)
            assert await client.wait(job_id, 60) == f"report of {again}"
            assert (await bunqueue.client.get(f"{job_id}-next")).data == again
            assert await asyncio.to_thread(SyncClient(REAL).state, job_id) == "completed"

    asyncio.run(main())
    assert STAND_INS.current is None


def test_server_of_a_test_on_asyncio_crashes_and_recovers():
    async def main() -> None:
        async with Bunqueue() as bunqueue:
            worker = bunqueue.worker("q")
            begun, going_on = asyncio.Event(), asyncio.Event()

            @worker.handler
            async def handle(job: Job) -> str:
                begun.set()
                await going_on.wait()
                return "done"

            bunqueue.start(worker)
            job_id = await bunqueue.client.push("q")
            await begun.wait()
            await bunqueue.crash()
            with pytest.raises(RuntimeError, match="the server is down"):
                _ = bunqueue.server
            await bunqueue.recover()
            assert list(bunqueue.jobs) == [job_id]
            bunqueue.cut()
            await bunqueue.stop()
            bunqueue.step_clock(3600)
            await bunqueue.recover()
            going_on.set()
            assert await bunqueue.client.wait(job_id, 60) == "done"

    asyncio.run(main())


def test_thread_that_its_worker_has_left_takes_no_slot_of_the_next_loop():
    worker = Worker("stuck", REAL, concurrency=1, timeout=0.05)
    going_on = threading.Event()

    @worker.handler
    def handle(job: Job) -> str:
        if job.data == "slow":
            going_on.wait(60)
        return "done"

    async def main(data: str) -> str:
        async with Bunqueue() as bunqueue:
            bunqueue.start(worker)
            job_id = await bunqueue.client.push("stuck", data, max_attempts=1)
            try:
                return str(await bunqueue.client.wait(job_id, 60))
            except JobFailed:
                return "failed"

    try:
        assert asyncio.run(main("slow")) == "failed"
        worker.timeout = 60
        assert asyncio.run(main("quick")) == "done"
    finally:
        going_on.set()


def test_killed_worker_on_asyncio_costs_a_stall():
    async def main() -> None:
        async with Bunqueue() as bunqueue:
            worker, begun = bunqueue.worker("q"), asyncio.Event()

            @worker.handler
            async def handle(job: Job) -> None:
                begun.set()
                await asyncio.Event().wait()

            bunqueue.start(worker)
            job_id = await bunqueue.client.push("q")
            await begun.wait()
            bunqueue.kill(worker)
            with anyio.fail_after(60):
                while bunqueue.jobs[job_id].stalls == 0:  # noqa: ASYNC110 - nobody hears of it
                    await asyncio.sleep(0.01)

    asyncio.run(main())


def test_trouble_of_a_worker_is_that_of_its_test():
    async def main() -> None:
        async with Bunqueue() as bunqueue:
            bunqueue.start(Worker("q"))
            await bunqueue.client.ping()

    with pytest.raises(RuntimeError, match="has no handler"):
        asyncio.run(main())


@on_both
async def test_time_out_names_job_state_and_queue(loop: str):
    """Also from a loop that is not the server's."""
    with Bunqueue() as bunqueue:
        job_id = await bunqueue.client.push("letters")
        with pytest.raises(TimeoutError, match=rf"job {job_id} of queue letters is waiting after 0.2 s: Nobody asks"):
            await bunqueue.client.wait(job_id, 0.2)


def test_wait_without_a_time_out_has_one(monkeypatch: pytest.MonkeyPatch):
    """In real time nobody knows that nothing will happen any more."""
    monkeypatch.setattr("bunqueue_trio.testing.place.WAIT_S", 0.2)

    async def main() -> None:
        async with Bunqueue() as bunqueue:
            await bunqueue.client.wait(await bunqueue.client.push("q"))

    with pytest.raises(TimeoutError, match=r"is waiting after 0.2 s"):
        asyncio.run(main())


@pytest.mark.parametrize("loop", ["trio", "asyncio"])
@pytest.mark.parametrize("of", ["worker", "app"])
def test_code_without_a_loop(bunqueue: Bunqueue, loop: Any, of: str):
    app = App(loop=loop)

    @app.handler("q")
    async def handle(job: Job) -> str:
        await anyio.lowlevel.checkpoint()
        return f"{job.data} on {loop}"

    bunqueue.start(app if of == "app" else app.workers["q"])
    with SyncClient(REAL) as client:
        job_id = client.push("q", "done")
        assert client.wait(job_id, 60) == f"done on {loop}"
        anyio.run(bunqueue.crash)
        anyio.run(bunqueue.recover)
        assert client.wait(client.push("q", "again"), 60) == f"again on {loop}"
        with pytest.raises(TimeoutError, match=r"of queue idle is waiting after 0.1 s: Nobody asks"):
            client.wait(client.push("idle"), 0.1)
    bunqueue.kill(app if of == "app" else app.workers["q"])
    with pytest.raises(RuntimeError, match="use SyncClient"):
        _ = bunqueue.client


def test_client_without_a_loop_hears_that_the_server_is_down(bunqueue: Bunqueue):
    anyio.run(bunqueue.crash)
    with pytest.raises(ServerUnavailable, match="the server is down"):
        SyncClient().push("q")


def test_cut_ends_what_a_client_without_a_loop_waits_for(bunqueue: Bunqueue):
    def cut() -> None:
        while not bunqueue.server.core.pulls_waiting:
            pass
        bunqueue.cut()

    async def both(pull: Callable[[], object], then: Callable[[], Awaitable[None]]) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, cut)
            with pytest.raises(ConnectionLost, match="the connection was cut"):
                await anyio.to_thread.run_sync(pull)
            await then()

    async def then() -> None:
        assert await bunqueue.client.push("q")

    anyio.run(both, lambda: SyncClient().pull("q", timeout=30), then)


# --- pytest ---------------------------------------------------------------------------------------

SUITE = """
import asyncio
import anyio
import pytest
from bunqueue_trio import Client, Job, Worker

worker = Worker("reports", "ws://queue.example:6790")

@worker.handler
async def build(job: Job):
    await anyio.sleep(0)
    return f"report of {job.data}"

async def is_built(bunqueue):
    bunqueue.start(worker)
    async with Client("ws://queue.example:6790") as client:
        assert await client.wait(await client.push("reports", 2), 60) == "report of 2"
    assert await bunqueue.client.wait(await bunqueue.client.push("reports", 3)) == "report of 3"

MARK
@pytest.mark.parametrize("again", range(2))
async def test_marked(bunqueue, again):
    await is_built(bunqueue)
    if "LOOP" == "asyncio":
        assert asyncio.get_running_loop()

def test_of_its_own(bunqueue):
    asyncio.run(is_built(bunqueue))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mark", "options"),
    [
        ("@pytest.mark.anyio\n@pytest.mark.parametrize('anyio_backend', ['asyncio'])", []),
        ("@pytest.mark.anyio\n@pytest.mark.parametrize('anyio_backend', ['asyncio'])", ["-p", "no:trio"]),
        ("@pytest.mark.anyio\n@pytest.mark.parametrize('anyio_backend', ['trio'])", []),
        ("@pytest.mark.asyncio", []),
        ("@pytest.mark.asyncio", ["-p", "no:trio"]),
        ("", ["-o", "asyncio_mode=auto"]),
    ],
    ids=[
        "anyio",
        "anyio without pytest-trio",
        "anyio on Trio",
        "asyncio",
        "asyncio without pytest-trio",
        "asyncio, auto",
    ],
)
def test_fixture_under_the_plugins_for_asyncio(tmp_path: Path, mark: str, options: list[str]):
    code = SUITE.replace("MARK", mark).replace("LOOP", "trio" if "['trio']" in mark else "asyncio")
    (tmp_path / "test_mine.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:schemathesis", "-W", "error",
         "-o", "asyncio_default_fixture_loop_scope=function", *options],
        cwd=tmp_path, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout
