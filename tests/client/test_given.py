"""What a client or worker cannot keep to is said where it is given; and a sync handler loses nothing that it says."""

import inspect
import math
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

from bunqueue_trio.client import Again, App, Client, Job, Worker
from bunqueue_trio.client import JobFailed as Failed
from bunqueue_trio.commands import GetLogs
from bunqueue_trio.errors import Refused, ServerUnavailable
from bunqueue_trio.sync import SyncClient
from bunqueue_trio.sync.jobs import SyncJob
from bunqueue_trio.testing import Bunqueue
from tests.client.loops import on_both
from tests.client.test_real_server import ws
from tests.wire.server import Server


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("60s", 60),
        ("5m", 300),
        ("1h30m", 5400),
        ("500ms", 0.5),
        (60, 60),
        (0.5, 0.5),
        (None, math.inf),
        (math.inf, math.inf),
    ],
)
def test_a_time_may_be_written_as_in_a_setting(given: Any, seconds: float):
    worker = Worker("q", timeout=given, grace=given)
    assert (worker.timeout, worker.grace) == (seconds, seconds)
    app = App(grace=given)
    app.handler("q", timeout=given)(print)
    assert (app.workers["q"].timeout, app.workers["q"].grace) == (seconds, seconds)


def test_no_grace_is_one():
    assert Worker("q", grace=0).grace == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"timeout": "soon"}, "timeout must be a time such as '60s', '5m' or '500ms', not 'soon'"),
        ({"timeout": "60"}, "timeout must be a time with a unit, such as '60s', '5m' or '500ms', or a number of seconds, not '60'"),
        ({"timeout": ""}, "timeout must be a time with a unit"),
        ({"timeout": 0}, "timeout must be more than 0, not 0"),
        ({"timeout": -1}, "timeout must be more than 0, not -1"),
        ({"timeout": math.nan}, "timeout must be more than 0, not nan"),
        ({"timeout": True}, "timeout must be a number of seconds, or a time such as '60s', not True"),
        ({"grace": -0.5}, "grace must be 0 or more, not -0.5"),
        ({"grace": [30]}, r"grace must be a number of seconds, or a time such as '60s', not \[30\]"),
        ({"concurrency": "5"}, "concurrency must be a whole number, not '5'"),
        ({"concurrency": 2.5}, "concurrency must be a whole number, not 2.5"),
        ({"concurrency": True}, "concurrency must be a whole number, not True"),
        ({"concurrency": 0}, "concurrency must be at least 1, not 0"),
        ({"concurrency": -3}, "concurrency must be at least 1, not -3"),
    ],
)  # fmt: skip
def test_what_no_worker_can_keep_to_is_said_at_once(options: dict[str, Any], said: str):
    with pytest.raises((TypeError, ValueError), match=said):
        Worker("q", **options)


def test_so_it_is_of_clients_and_apps():
    with pytest.raises(ValueError, match="patience must be 0 or more"):
        Client(patience=-1)
    with pytest.raises(TypeError, match="in_flight must be a whole number"):
        Client(in_flight="many")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="grace must be"):
        App(grace=-1)
    with pytest.raises(ValueError, match="timeout must be more than 0"):
        App().handler("q", timeout=0)(print)
    with pytest.raises(TypeError, match="concurrency must be a whole number"):
        Worker("q").set_concurrency("9")  # type: ignore[arg-type]


def test_a_second_handler_is_refused_and_the_first_stays():
    worker = Worker("q")

    @worker.handler
    async def first(job: Job) -> None: ...

    with pytest.raises(
        ValueError, match=r"the worker of 'q' has a handler already, .*first: .*second cannot be one, too"
    ):

        @worker.handler
        async def second(job: Job) -> None: ...

    assert worker._handlers[None].function is first


@on_both
async def test_a_sync_handler_logs_and_reports_without_await(server: Server, queue: str):
    worker = Worker(queue, ws(server))

    @worker.handler
    def handle(job: Job) -> Any:
        job.log("half way")
        job.log("nearly", level="warn")
        job.progress(50, "half")
        job.extend_lock(100)
        anyio.from_thread.run(job.progress, 75)
        return anyio.from_thread.run(job.push, f"{queue}-next", 1)

    async with Client(ws(server)) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        job_id = await client.push(queue)
        following = await client.wait(job_id, 60)
        assert await client.state(following) == "waiting"
        logs = (await client.run(GetLogs(id=job_id))).data.logs
        assert [(line.level, line.message) for line in logs] == [("info", "half way"), ("warn", "nearly")]
        assert (await client.get(job_id)).progress == 75
        worker.stop()


@on_both
async def test_what_a_sync_handler_cannot_await_is_an_error(server: Server, queue: str):
    worker = Worker(queue, ws(server))

    @worker.handler
    def handle(job: Job) -> None:
        job.push(queue, 1)

    async with Client(ws(server)) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        job_id = await client.push(queue, max_attempts=1)
        with pytest.raises(Failed, match=r"a sync handler cannot await: anyio.from_thread.run\(job.push"):
            await client.wait(job_id, 60)
        worker.stop()


async def test_a_job_is_pushed_to_its_handler(bunqueue: Bunqueue):
    app = App()

    @app.handler("words")
    async def shout(job: Job[str]) -> str:
        return job.data.upper()

    @app.handler("texts")
    async def read(job: Job[list[str]]) -> list[str]:
        return [await job.client.wait(await job.push_to(shout, word), 5) for word in job.data]

    bunqueue.start(app)
    job_id = await bunqueue.client.push_to(read, ["a", "b"], max_attempts=1)
    assert (await bunqueue.client.get(job_id)).queue == "texts"
    assert await bunqueue.client.wait(job_id, 60) == ["A", "B"]


async def test_who_is_the_handler_of_no_queue_or_of_two_is_said(bunqueue: Bunqueue):
    async def handle(job: Job) -> None: ...

    with pytest.raises(TypeError, match=r"handle.* is no handler of a worker"):
        await bunqueue.client.push_to(handle, 1)
    Worker("one").handler(handle)
    assert await bunqueue.client.push_to(handle, 1)
    Worker("one").handler(handle)
    Worker("two").handler(handle)
    with pytest.raises(ValueError, match=r"push by queue and name: .*handle.* is the handler of one and two"):
        await bunqueue.client.push_to(handle, 1)


def test_a_handler_that_can_have_no_note_is_one_all_the_same():
    worker = Worker("q")
    worker.handler(print)
    assert worker.has_handler


@pytest.mark.parametrize("client", [Client(), SyncClient()])
def test_a_time_of_a_command_is_said_as_one_of_a_worker(client: Any):
    """And refused by its name before anything is sent, whatever of a client takes it."""

    async def ask(call: Any, name: str, *values: Any) -> None:
        await call(*values, **{name: "soon"})

    calls = [
        (client.push, "delay", "q", 1), (client.pull, "timeout", "q"), (client.pull, "lease", "q"),
        (client.pull_many, "timeout", "q", 1), (client.pull_many, "lease", "q", 1), (client.fail, "retry_in", "id"),
        (client.heartbeat, "duration", "id"), (client.extend_lock, "duration", "id", "token"), (client.cancel, "grace", "id"),
        (client.wait, "timeout", "id"),
    ]  # fmt: skip
    for call, name, *values in calls:
        with pytest.raises(ValueError, match=f"{name} must be a time such as '60s', '5m' or '500ms', not 'soon'"):
            anyio.run(ask, call, name, *values)
    with pytest.raises(ValueError, match="retry_in must be a time such as"):
        anyio.run(client.fail_many, [{"id": "a", "retry_in": "soon"}])


@pytest.mark.parametrize("client", [Client, SyncClient, Worker, App, Job, SyncJob, Again])
def test_every_time_that_is_given_may_be_a_text(client: Any):
    """A parameter of seconds alone would be one that takes them otherwise than all others."""
    functions = [
        f for name, f in inspect.getmembers(client, inspect.isfunction) if name == "__init__" or name[0] != "_"
    ]
    seconds = {
        (function.__qualname__, name)
        for function in functions
        for name, parameter in inspect.signature(function).parameters.items()
        if name in {"timeout", "lease", "retry_in", "duration", "grace", "patience", "delay", "after"}
        and not re.search("Time|Span", str(parameter.annotation))
    }
    assert seconds == set()


async def test_wait_takes_a_text_too(bunqueue: Bunqueue):
    job_id = await bunqueue.client.push("q", delay=100)
    with pytest.raises(TimeoutError, match="after 5 s"):
        await bunqueue.client.wait(job_id, "5s")
    with pytest.raises(ValueError, match="timeout must be a time"):
        await bunqueue.client.wait(job_id, "soon")


async def _waits(job: Job) -> AsyncIterator[int]:
    yield 1


def _yields(job: Job) -> Iterator[int]:
    yield 1


class _Called:
    def __call__(self, job: Job) -> Iterator[int]:
        yield 1


def _nothing() -> None: ...


async def _two(job: Job, more: str) -> None: ...


def _named(*, job: Job) -> None: ...


@pytest.mark.parametrize("handler", [_nothing, _two, _named])
def test_a_handler_that_takes_no_job_is_refused_where_it_is_given(handler: Any):
    """Each of its jobs would fail."""
    with pytest.raises(TypeError, match="cannot be called with a job alone"):
        Worker("q").handler(handler)


def _more(job: Job, more: str = "") -> None: ...


@pytest.mark.parametrize("handler", [_more, lambda *jobs: None, print])
def test_a_handler_may_take_more_than_a_job(handler: Any):
    worker = Worker("q")
    worker.handler(handler)
    assert worker.has_handler


@on_both
async def test_a_refusal_calls_a_field_what_it_is_called_in_python():
    wrong: Any = "x"
    number: Any = 5
    async with Bunqueue() as bunqueue:
        with pytest.raises(Refused, match=r"^max_attempts must be a number$"):
            await bunqueue.client.push("q", max_attempts=wrong)
        with pytest.raises(Refused, match=r"^jobs\[1\]: unique_key must be a string$"):
            await bunqueue.client.push_many("q", [{"data": 1}, {"data": 1, "unique_key": number}])


@pytest.mark.parametrize("handler", [_waits, _yields, _Called()], ids=["async", "plain", "called"])
def test_what_has_a_yield_is_no_handler(handler: Any):
    """A call of it runs nothing, and each of its jobs would fail by its result."""
    with pytest.raises(TypeError, match="has a yield in it"):
        Worker("q").handler(handler)


@on_both
async def test_a_client_of_another_thread_is_refused_at_once():
    """Who waited there for an answer would wait for ever: only the loop of the client could wake it."""
    client = Client("ws://127.0.0.1:1")

    def elsewhere() -> None:
        with pytest.raises(RuntimeError, match="was opened in another thread"):
            anyio.run(client.push, "q")

    async def open_and_ask() -> None:
        async with client:
            await client.push("q")

    def opened_here() -> None:
        # It was made elsewhere, which does not count.
        with pytest.raises(ServerUnavailable):
            anyio.run(open_and_ask, backend="asyncio")

    async with client:
        await anyio.to_thread.run_sync(elsewhere)
    client = Client("ws://127.0.0.1:1", patience=0)
    await anyio.to_thread.run_sync(opened_here)
