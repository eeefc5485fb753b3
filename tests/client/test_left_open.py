"""Handlers that leave what is around them otherwise than they found it: scopes, nurseries, and processes. It is their job's failure only."""

import gc
import os
import subprocess
import sys
import textwrap
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, aclosing
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio

from bunqueue_trio.client import Client, Job, JobFailed, Worker
from bunqueue_trio.sync import SyncClient
from tests.client.loops import on_both
from tests.client.test_real_server import ws
from tests.wire.server import Server

# What the end of such a generator raises is not of the worker.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
kept: list[Any] = []


class Noted(Exception):
    pass


async def in_a_scope() -> AsyncGenerator[int, None]:
    """Do what looks well: who leaves it early leaves the scope open."""
    with ExitStack() as opened:
        opened.enter_context(anyio.CancelScope())
        yield 1  # noqa: ASYNC119 - that is the mistake


async def in_a_group() -> AsyncIterator[int]:
    async with AsyncExitStack() as opened:
        group = await opened.enter_async_context(anyio.create_task_group())
        group.start_soon(anyio.sleep, 1000)
        yield 1  # noqa: ASYNC119 - that is the mistake


async def leaves_early(numbers: AsyncIterator[int]) -> int:
    async for number in numbers:
        return number
    raise AssertionError


async def leaves_a_generator() -> int:
    return await leaves_early(in_a_scope())


async def leaves_a_group() -> int:
    return await leaves_early(in_a_group())


async def keeps_a_group() -> int:
    kept.append(in_a_group())
    return await leaves_early(kept[-1])


async def enters_scopes() -> None:
    for shield in (False, True):
        kept.append(anyio.CancelScope(shield=shield))
        kept[-1].__enter__()


async def enters_one_and_raises() -> None:
    await enters_scopes()
    raise ValueError("of its own")


async def _boom() -> None:
    raise ValueError("in a task")


async def has_a_task_that_fails() -> None:
    group: AbstractAsyncContextManager[Any] = anyio.create_task_group()
    kept.append(group)
    (await group.__aenter__()).start_soon(_boom)
    await anyio.sleep(1000)


def in_trios() -> list[Callable[[], Any]]:
    async def nursery() -> None:
        kept.append(trio.open_nursery())
        (await kept[-1].__aenter__()).start_soon(trio.sleep, 1000)

    async def scope() -> None:
        kept.append(trio.CancelScope())
        kept[-1].__enter__()

    return [nursery, scope]


LEFT = "has left a cancel scope or a task group open"
LEAVES: dict[str, tuple[Callable[[], Any], str]] = {
    "generator": (leaves_a_generator, LEFT), "group": (leaves_a_group, LEFT), "kept": (keeps_a_group, LEFT),
    "scopes": (enters_scopes, LEFT), "raises": (enters_one_and_raises, "ValueError: of its own"),
    "task": (has_a_task_that_fails, "Cancelled"),
}  # fmt: skip


@on_both
async def test_what_a_handler_leaves_open_costs_its_attempt_and_no_worker(server: Server, queue: str, loop: str):
    worker = Worker(queue, ws(server), concurrency=1)
    leaves = dict(LEAVES)
    if loop == "trio":
        leaves |= {str(n): (leave, LEFT) for n, leave in enumerate(in_trios())}

    @worker.handler
    async def handle(job: Job) -> Any:
        return await leaves[job.data][0]()

    @worker.handler(name="well")
    async def well(job: Job) -> str:
        # What is left of a scope reaches nobody else.
        await anyio.sleep(0.01)
        return "well"

    async with Client(ws(server)) as client, anyio.create_task_group() as running:
        running.start_soon(worker.run)
        with anyio.fail_after(60):
            for name, (_, told) in leaves.items():
                bad = await client.push(queue, name, max_attempts=1)
                with pytest.raises(JobFailed, match=told):
                    await client.wait(bad, 60)
                assert (await client.get(bad)).attempts == 1
                assert await client.wait(await client.push(queue, name="well"), 60) == "well"
        worker.stop()
    kept.clear()


@on_both
async def test_what_a_handler_leaves_open_is_cancelled(server: Server, queue: str):
    ended = anyio.Event()

    async def goes_on() -> None:
        try:
            await anyio.sleep(1000)
        finally:
            ended.set()

    async def numbers() -> AsyncIterator[int]:
        async with AsyncExitStack() as opened:
            group = await opened.enter_async_context(anyio.create_task_group())
            group.start_soon(goes_on)
            await anyio.sleep(0.01)
            yield 1  # noqa: ASYNC119 - that is the mistake

    worker = Worker(queue, ws(server), concurrency=1)

    @worker.handler
    async def handle(job: Job) -> int:
        if job.data == "closes":
            async with aclosing(in_a_scope()) as closed:
                return await leaves_early(closed)
        kept.append(numbers())
        return await leaves_early(kept[-1])

    async with Client(ws(server)) as client, anyio.create_task_group() as running:
        running.start_soon(worker.run)
        with anyio.fail_after(60):
            with pytest.raises(JobFailed, match=LEFT):
                await client.wait(await client.push(queue, max_attempts=1), 60)
            await ended.wait()
            assert await client.wait(await client.push(queue, "closes", max_attempts=1), 60) == 1
        worker.stop()
    kept.clear()


@pytest.mark.parametrize("kind", ["sync", "async"])
@on_both
async def test_a_failure_leaves_nothing_to_the_garbage_collector(server: Server, queue: str, loop: str, kind: str):
    """Else each of them is looked at by it again and again, with all that its frames hold."""
    worker, errors = Worker(queue, ws(server), concurrency=5), list[weakref.ref[Exception]]()

    def fails(job: Job) -> None:
        error = Noted("bad")
        errors.append(weakref.ref(error))
        try:
            raise error
        finally:
            # What the handler keeps itself is its own.
            del error

    async def fails_async(job: Job) -> None:
        fails(job)

    worker.handler(fails if kind == "sync" else fails_async)
    gc.disable()
    try:
        async with Client(ws(server)) as client, anyio.create_task_group() as running:
            running.start_soon(worker.run)
            with anyio.fail_after(60):
                for job_id in await client.push_many(queue, [{"max_attempts": 1}] * 60):
                    with pytest.raises(JobFailed, match="Noted"):
                        await client.wait(job_id, 60)
                # Trio's own threads keep theirs; of asyncio's, those that rest keep their last one.
                if (loop, kind) != ("trio", "sync"):
                    assert len([error for error in errors if error() is not None]) <= (5 if kind == "sync" else 0)
            worker.stop()
    finally:
        gc.enable()
    assert len(errors) == 60


FORKS = """
import os, sys
import anyio
from bunqueue_trio import App, Job

url, loop, queue = sys.argv[1:]
app = App(url, loop=loop)
CODES = {"returns": 0, "exits": 3, "raises": 1, "exits with words": 1}

def comes_back(how):
    print("in the child")
    if how == "exits":
        sys.exit(3)
    if how == "exits with words":
        sys.exit("words")
    if how == "raises":
        raise ValueError("in the child")
    return "child"

@app.handler(queue, name="sync")
def sync(job: Job):
    child = os.fork()
    if child == 0:
        return comes_back(job.data)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

@app.handler(queue, name="async")
async def in_loop(job: Job):
    child = os.fork()
    if child == 0:
        return comes_back(job.data)
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        await anyio.sleep(0.02)
    return os.waitstatus_to_exitcode(ended[1])

anyio.run(app.run_until_signal, backend=loop)
"""
CODES = {"returns": 0, "exits": 3, "raises": 1, "exits with words": 1}


@pytest.mark.parametrize("loop", ["trio", "asyncio"])
def test_a_child_that_comes_out_of_its_handler_is_no_worker(server: Server, queue: str, loop: str, tmp_path: Path):
    """It has the connection of the worker, too: else both would speak over it, or the child would wait for jobs for ever."""
    script, said = tmp_path / "forks.py", tmp_path / "said"
    script.write_text(textwrap.dedent(FORKS))
    with said.open("wb") as out:
        worker = subprocess.Popen(
            [sys.executable, script, ws(server), loop, queue], stdout=out, stderr=(tmp_path / "err").open("wb"),
            env=dict(os.environ) | {"PYTHONPATH": str(Path.cwd())},
        )  # fmt: skip
    try:
        with SyncClient(server.url) as client:
            for kind in ("sync", "async"):
                for how, code in CODES.items():
                    job_id = client.push(queue, how, name=kind, max_attempts=1)
                    assert client.wait(job_id, 60) == code, (kind, how)
        assert worker.poll() is None
    finally:
        worker.terminate()
        assert worker.wait(60) == 0
    assert said.read_text().count("in the child") == 2 * len(CODES)
