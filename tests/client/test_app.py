"""Many queues in one program: one app, its handlers, and what they want from the server themselves."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
import trio
from click.testing import CliRunner

from bunqueue_trio.cli import main
from bunqueue_trio.client import App, Client, Job, Refused
from bunqueue_trio.client.connection import Connection
from bunqueue_trio.testing import Bunqueue
from tests.client.loops import on_both
from tests.client.test_real_server import ws
from tests.wire.server import Server


def app_of(bunqueue: Bunqueue, **options: Any) -> App:
    return App(connect=bunqueue._place.connect, random=bunqueue.random, **options)


async def test_each_queue_has_its_handler_slots_and_limit(bunqueue: Bunqueue, nursery: trio.Nursery):
    app = app_of(bunqueue)
    most = {"a": 0, "b": 0}
    now = {"a": 0, "b": 0}

    async def work(job: Job) -> str:
        now[job.queue] += 1
        most[job.queue] = max(most[job.queue], now[job.queue])
        try:
            await trio.sleep(5)
        finally:
            now[job.queue] -= 1
        return job.queue

    app.handler("a", concurrency=2)(work)
    app.handler("b", concurrency=3, timeout=1)(work)
    nursery.start_soon(app.run)
    a = await bunqueue.client.push_many("a", [{"data": n} for n in range(6)])
    b = await bunqueue.client.push_many("b", [{"data": n, "max_attempts": 1} for n in range(6)])
    for job_id in a:
        assert await bunqueue.client.wait(job_id, 60) == "a"
    assert {await bunqueue.client.state(job_id) for job_id in b} == {"failed"}
    assert most == {"a": 2, "b": 3}
    app.stop()


async def test_some_of_the_queues(bunqueue: Bunqueue, nursery: trio.Nursery):
    app = app_of(bunqueue)

    async def work(job: Job) -> Any:
        return job.data

    for name in ("a", "b"):
        app.handler(name)(work)
    nursery.start_soon(app.run, ["a"])
    done, left = await bunqueue.client.push("a", 1), await bunqueue.client.push("b", 2)
    assert await bunqueue.client.wait(done, 10) == 1
    assert await bunqueue.client.state(left) == "waiting"
    app.stop()


@on_both
async def test_mistakes_are_errors_in_words():
    app = App()
    with pytest.raises(ValueError, match="no handlers"):
        await app.run()
    app.handler("a")(print)
    with pytest.raises(ValueError, match="'a' has a handler already"):
        app.handler("a")(print)
    with pytest.raises(ValueError, match="no handler for queue 'b'; there are a"):
        await app.run(["a", "b"])


@pytest.mark.parametrize(("late", "state"), [("no such name!", "completed"), ("good", "waiting")])
async def test_refused_queue_stops_the_others_in_order(bunqueue: Bunqueue, late: str, state: str):
    """A job that was taken before is done, and nothing is taken afterwards."""

    @asynccontextmanager
    async def connect(queue: str | None) -> AsyncIterator[Connection]:
        if queue == late:
            await trio.sleep(5)
        async with bunqueue._place.connect(queue) as connection:
            yield connection

    app = App(connect=connect, random=bunqueue.random)
    done: list[str] = []

    async def work(job: Job) -> None:
        await trio.sleep(10)
        done.append(job.id)

    app.handler("good")(work)
    job_id = await bunqueue.client.push("good")
    app.handler("no such name!")(work)
    with pytest.raises(Refused, match="invalid characters"):
        await app.run()
    assert done == ([job_id] if state == "completed" else [])
    assert await bunqueue.client.state(job_id) == state
    assert (await bunqueue.client.get(job_id)).attempts == 0


async def test_handler_pushes_waits_and_looks(bunqueue: Bunqueue, nursery: trio.Nursery):
    """Jobs of other queues too; a second delivery of the same job pushes nothing twice."""
    app = app_of(bunqueue)
    pages: list[str] = []

    @app.handler("sites")
    async def crawl(job: Job) -> Any:
        for n in range(2):
            child = await job.push("pages", n, job_id=f"{job.id}-{n}", delay=1)
        if job.attempt == 1:
            raise ValueError("once, after its pushes")
        return await job.client.wait(child, 60)

    @app.handler("pages")
    async def fetch(job: Job) -> Any:
        pages.append(job.id)
        return job.data

    nursery.start_soon(app.run)
    site = await bunqueue.client.push("sites", backoff=0.1)
    assert await bunqueue.client.wait(site, 60) == 1
    assert sorted(pages) == [f"{site}-0", f"{site}-1"]
    app.stop()


@pytest.mark.slow
@on_both
async def test_sync_handler_pushes(server: Server, queue: str):
    app = App(ws(server))

    @app.handler(queue)
    def handle(job: Job) -> str:
        return anyio.from_thread.run(partial(job.push, f"{queue}-next", job.data, priority=3))

    async with Client(ws(server)) as client, anyio.create_task_group() as nursery:
        nursery.start_soon(app.run)
        child = await client.wait(await client.push(queue, "data"), 60)
        assert (await client.get(child)).priority == 3
        app.stop()


async def test_connection_of_handlers_is_made_when_it_is_wanted(bunqueue: Bunqueue):
    worker = bunqueue.worker("q")
    worker.handler(lambda job: job.data)
    bunqueue.start(worker)
    assert await bunqueue.client.wait(await bunqueue.client.push("q", 1), 10) == 1
    assert sum(owner is worker for owner in bunqueue._lives.pipes.values()) == 1


TASKS = """
from bunqueue_trio import App, Worker
app = App()
app.handler("emails", concurrency=3)(print)
app.handler("images")(print)
single = Worker("single")
single.handler(print)
idle = Worker("idle")
empty = App()
again = app.workers["images"]
on_asyncio = App(loop="asyncio")
on_asyncio.handler("asyncio")(print)
on_trio = App(loop="trio")
on_trio.handler("trio")(print)
something = 1
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "queues"),
    [
        (["apptasks:app"], ["emails", "images"]),
        (["apptasks:app", "--queues", "images"], ["images"]),
        (["apptasks:app", "apptasks:single"], ["emails", "images", "single"]),
        (["apptasks:app", "apptasks:single", "--queues", "single, emails"], ["emails", "single"]),
        (["apptasks:single", "apptasks:single"], ["single"]),
        (["apptasks:app", "apptasks:again", "apptasks:app"], ["emails", "images"]),
        (["apptasks:app", "--asyncio"], ["emails", "images"]),
        (["apptasks:on_asyncio", "apptasks:single"], ["asyncio", "single"]),
    ],
)
def test_command_runs_what_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], queues: list[str]
):
    (tmp_path / "apptasks.py").write_text(TASKS)
    monkeypatch.chdir(tmp_path)
    ran, loops = list[tuple[str, str, int]](), list[str]()
    loop = "asyncio" if "asyncio" in str(arguments) else "trio"

    async def run(workers: Any) -> None:
        loops.append("trio" if trio.lowlevel.in_trio_task() else "asyncio")
        ran.extend((worker.queue, worker.url, worker.concurrency) for worker in workers)

    monkeypatch.setattr("bunqueue_trio.cli.worker.run_until_signal", run)
    result = CliRunner().invoke(main, ["worker", *arguments, "--url", "queue:1", "--concurrency", "7"])
    assert (result.exit_code, result.output) == (0, "")
    assert ran == [(queue, "queue:1", 7) for queue in queues]
    assert loops == [loop]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["apptasks:app", "--queues", "mails"], "no handler for queue 'mails'; there are emails, images"),
        (["apptasks:empty"], "'empty' in 'apptasks' has no handlers"),
        (["apptasks:idle"], "'idle' in 'apptasks' has no handler"),
        (["apptasks:single", "apptasks:idle"], "has no handler"),
        (["apptasks:something"], "is no Worker and no App"),
        (["apptasks"], "is not MODULE:NAME"),
        (["apptasks:on_asyncio", "apptasks:on_trio"], "start them by commands of their own"),
        ([], "Missing argument"),
    ],
)
def test_command_tells_mistakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], told: str):
    (tmp_path / "apptasks.py").write_text(TASKS)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["worker", *arguments])
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert told in result.output
