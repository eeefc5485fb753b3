"""What the package shows, what importing it costs, and the worker's command line."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

import bunqueue_trio
from bunqueue_trio.client import Client, JobFailed
from tests.wire.server import Server

TASKS = """
import LOOP
from bunqueue_trio import Worker

mail = Worker("emails", concurrency=2, loop=NAMED)

@mail.handler
async def send(job):
    await LOOP.sleep(job.data)
    return "sent"
"""


def test_importing_the_client_imports_no_server():
    code = (
        "import sys, bunqueue_trio; from bunqueue_trio import Client, Worker, Job;"
        "print([m for m in ('apsw', 'quart', 'hypercorn', 'bunqueue_trio.engine') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=90, check=True)
    assert done.stdout.strip() == "[]"


def test_exports():
    assert bunqueue_trio.Client is Client
    with pytest.raises(AttributeError, match="nothing"):
        _ = bunqueue_trio.nothing


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    return written(tmp_path, "trio", None)


def written(folder: Path, loop: str, named: str | None) -> Path:
    (folder / "tasks.py").write_text(TASKS.replace("LOOP", loop).replace("NAMED", repr(named)))
    return folder


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from bunqueue_trio.cli import main; main()", "worker", *arguments]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loop", "named", "options"),
    [("trio", None, ()), ("asyncio", None, ("--asyncio",)), ("asyncio", "asyncio", ()), ("trio", "trio", ())],
)
async def test_command_runs_until_a_signal(
    fresh: Server, tmp_path: Path, loop: str, named: str | None, options: tuple[str, ...]
):
    tasks = written(tmp_path, loop, named)
    process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
        command("tasks:mail", "--url", fresh.url, "--grace", "60", *options), cwd=tasks, stderr=subprocess.PIPE
    )
    try:
        async with Client(f"ws://127.0.0.1:{fresh.port}") as client:
            assert await client.wait(await client.push("emails", 0), 60) == "sent"
            slow = await client.push("emails", 1.0)
            while await client.state(slow) != "active":
                pass
            await trio.sleep(0.2)  # the server has given it away; now the worker has it
            process.send_signal(signal.SIGTERM)
            assert await client.wait(slow, 60) == "sent"
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()


HANGING = """
import time
from bunqueue_trio import Worker

mail = Worker("emails", timeout=0.1, grace=0.1)

@mail.handler
def send(job):
    time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--asyncio",)], ids=["trio", "asyncio"])
async def test_command_ends_though_a_thread_hangs(fresh: Server, tmp_path: Path, options: tuple[str, ...]):
    (tmp_path / "tasks.py").write_text(HANGING)
    process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
        command("tasks:mail", "--url", fresh.url, *options), cwd=tmp_path, stderr=subprocess.PIPE
    )
    try:
        async with Client(f"ws://127.0.0.1:{fresh.port}") as client:
            with pytest.raises(JobFailed, match="timed out"):
                await client.wait(await client.push("emails", max_attempts=1), 60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("tasks", "is not MODULE:NAME"),
        ("./tasks:send", "is a path: a module is named as in an import"),
        ("nowhere:x", "no module 'nowhere'"),
        ("tasks:send", "is no Worker"),
    ],
)
def test_command_says_what_is_wrong(tasks: Path, target: str, said: str):
    done = subprocess.run(command(target), cwd=tasks, capture_output=True, text=True, timeout=90, check=False, env=None)
    assert done.returncode == 2
    assert said in re.sub(r"[\s│]+", " ", done.stderr)


@pytest.mark.slow
def test_wrong_token_is_one_line(tmp_path: Path, tasks: Path):
    with Server(tmp_path / "q.db", {"AUTH_TOKENS": "secret"}) as server:
        done = subprocess.run(
            command("tasks:mail", "--url", server.url, "--token", "guess"),
            cwd=tasks, capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert "Unauthorized" in done.stderr
    assert "Traceback" not in done.stderr
