"""BUNQUEUE_URL and BUNQUEUE_TOKEN: what clients, workers and commands take when nobody says otherwise."""

import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from bunqueue_trio import Client, Refused, Worker
from bunqueue_trio.sync import SyncClient
from tests.client.loops import on_both
from tests.operations.processes import environment
from tests.patience import PATIENCE_S
from tests.wire.server import Server


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("env") / "q.db", {"AUTH_TOKENS": "secret"}) as server:
        yield server


@pytest.fixture(params=["ws", "http"])
def told(request: pytest.FixtureRequest, guarded: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The environment names the server, in either form of its address."""
    monkeypatch.setenv("BUNQUEUE_URL", f"{request.param}://127.0.0.1:{guarded.port}")
    monkeypatch.setenv("BUNQUEUE_TOKEN", "secret")
    return guarded


@on_both
@pytest.mark.thorough
async def test_client_and_worker(told: Server, queue: str):
    worker = Worker(queue)
    worker.handler(lambda job: job.data + 1)
    async with anyio.create_task_group() as nursery, Client() as client:
        nursery.start_soon(worker.run)
        assert await client.wait(await client.push(queue, 1), PATIENCE_S) == 2
        worker.stop()


def test_sync_client(told: Server):
    with SyncClient() as client:
        assert client.stats()["stats"]


@on_both
async def test_what_is_said_wins(guarded: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BUNQUEUE_URL", "ws://127.0.0.1:1")
    monkeypatch.setenv("BUNQUEUE_TOKEN", "guess")
    address = f"ws://127.0.0.1:{guarded.port}"
    async with Client(address, token="secret") as client:
        await client.ping()
    with SyncClient(address, token="secret") as client:
        await anyio.to_thread.run_sync(client.stats)
    for token in (None, ""):
        with SyncClient(address, token=token) as client, pytest.raises(Refused, match="Unauthorized"):
            await anyio.to_thread.run_sync(client.stats)
    assert Worker("q", address).url == address


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["ws", "http"])
def test_commands_take_either_form(guarded: Server, scheme: str):
    env = environment({"BUNQUEUE_URL": f"{scheme}://127.0.0.1:{guarded.port}", "BUNQUEUE_TOKEN": "secret"})
    command = [sys.executable, "-m", "bunqueue_trio", "stats", "--json"]
    assert b'"ok":true' in subprocess.run(command, env=env, capture_output=True, timeout=60, check=True).stdout


SCRIPT = """
import anyio
from bunqueue_trio import Worker

worker = Worker("script", grace=20)

@worker.handler
async def handle(job):
    await anyio.sleep(SECONDS)
    return "drained"

anyio.run(worker.run_until_signal, backend="LOOP")
print("after")
"""


@asynccontextmanager
async def at_work(
    guarded: Server, folder: Path, seconds: int, loop: str, through: tuple[str, ...] = ()
) -> AsyncIterator[tuple[Client, str, "subprocess.Popen[str]"]]:
    """A client, the id of a job whose handler takes that long, and the process that has begun with it."""
    script = folder / "script.py"
    script.write_text(SCRIPT.replace("SECONDS", str(seconds)).replace("LOOP", loop))
    address = f"ws://127.0.0.1:{guarded.port}"
    env = environment({"BUNQUEUE_URL": address, "BUNQUEUE_TOKEN": "secret", "PYTHONUNBUFFERED": "1"})
    process = subprocess.Popen(  # noqa: ASYNC220 - returns at once
        [*through, sys.executable, str(script)], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        async with Client(address, token="secret") as client:
            job_id = await client.push("script")
            with anyio.fail_after(60):
                while await client.state(job_id) != "active":  # noqa: ASYNC110 - of a process
                    await anyio.sleep(0.05)
            await anyio.sleep(0.2)  # the server has given it away; now the worker has it
            yield client, job_id, process
    finally:
        process.kill()


async def output_of(process: "subprocess.Popen[str]") -> str:
    output, _ = await anyio.to_thread.run_sync(lambda: process.communicate(timeout=60))
    assert process.returncode == 0
    assert output.rstrip().endswith("after")
    return output


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=["SIGTERM", "SIGINT", "SIGHUP"])
@on_both
async def test_plain_script_drains_on_a_signal(guarded: Server, tmp_path: Path, number: signal.Signals, loop: str):
    async with at_work(guarded, tmp_path, 1, loop) as (client, job_id, process):
        process.send_signal(number)
        assert await client.wait(job_id, PATIENCE_S) == "drained"
        output = await output_of(process)
    places = [output.index(f"worker {what}") for what in ("started", "connected", "stops", "stopped")]
    assert places == sorted(places)


@pytest.mark.slow
@on_both
async def test_a_signal_that_a_worker_is_to_ignore_does_not_stop_it(guarded: Server, tmp_path: Path, loop: str):
    """As with the server: by nohup, or what a script of a shell starts with `&`."""
    async with at_work(guarded, tmp_path, 2, loop, ("nohup",)) as (client, job_id, process):
        process.send_signal(signal.SIGHUP)
        assert await client.wait(job_id, PATIENCE_S) == "drained"
        assert await client.wait(await client.push("script"), PATIENCE_S) == "drained"
        process.send_signal(signal.SIGTERM)
        await output_of(process)


@pytest.mark.slow
@on_both
async def test_second_signal_ends_the_grace(guarded: Server, tmp_path: Path, loop: str):
    async with at_work(guarded, tmp_path, 60, loop) as (client, job_id, process):
        process.send_signal(signal.SIGTERM)
        await anyio.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        await output_of(process)
        assert await client.state(job_id) == "waiting"
