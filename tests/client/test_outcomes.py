"""Whatever a handler raises, returns or logs becomes a reported outcome: nothing of a job ends its worker."""

import json
import math
import os
import signal
import threading
from collections.abc import Callable, MutableMapping
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import msgspec
import pytest
import structlog
import trio

from bunqueue_trio.client import Client, Job, JobFailed, Worker
from bunqueue_trio.client.handlers import Threads, parted
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.testing import Bunqueue
from bunqueue_trio.testing.lives import Pipe
from tests.client.loops import on_both
from tests.client.test_real_server import ws
from tests.wire.server import Server


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no text for this one")


class MuteForGood(Exception):
    def __str__(self) -> str:
        raise SystemExit("not even to be asked")


class Shy(type):
    """The class of classes that do not say what they are called."""

    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise ValueError("no name for this one")


class Nameless(Exception, metaclass=Shy):
    pass


class MuteByNameless(Exception):
    def __str__(self) -> str:
        raise Nameless


class Own(BaseException):
    """One that is no Exception."""


def raises(error: BaseException) -> Callable[[], Any]:
    def act() -> None:
        raise error

    return act


def deep() -> Any:
    found: list[Any] = []
    for _ in range(100_000):
        found = [found]
    return found


def nested_group() -> BaseException:
    error: Exception = ValueError("at the bottom")
    for _ in range(3000):
        error = ExceptionGroup("deep", [error])
    return error


class OwnGroup(BaseExceptionGroup[BaseException]):
    """One that cannot be taken apart."""

    def derive(self, _: Any) -> Any:
        raise ValueError("not to be split")


ODD: dict[str, tuple[Callable[[], Any], str]] = {
    "surrogate": (raises(ValueError("cannot read " + os.fsdecode(b"\xe9.txt"))), "ValueError: cannot read "),
    "no text": (raises(Mute()), "Mute"),
    "exit for a text": (raises(MuteForGood()), "MuteForGood"),
    "no name": (raises(Nameless("bad")), "Nameless: bad"),
    "no name for a text": (raises(MuteByNameless()), "MuteByNameless: its text cannot be made: Nameless"),
    "exit": (raises(SystemExit(3)), "SystemExit: 3"),
    "generator exit": (raises(GeneratorExit()), "GeneratorExit"),
    "own base": (raises(Own("bad")), "Own: bad"),
    "group": (raises(BaseExceptionGroup("two", [Own("bad"), ValueError("worse")])), "BaseExceptionGroup: two"),
    "nested group": (raises(nested_group()), "ExceptionGroup: deep"),
    "own group": (raises(OwnGroup("whole", [Own("bad")])), "OwnGroup: whole"),
    "stop iteration": (raises(StopIteration()), "RuntimeError"),
    "long": (raises(ValueError("x" * 1_000_000)), "ValueError: xxx"),
    "surrogate result": (lambda: os.fsdecode(b"\xe9"), "UnicodeEncodeError"),
    "deep result": (deep, "Recursion"),
    "nested result": (lambda: json.loads("[" * 600 + "]" * 600), "the result was refused"),
    "object": (object, "TypeError"),
    "no JSON": (lambda: msgspec.Raw(b"{no JSON"), "the result was refused: Invalid JSON"),
    "large result": (lambda: "x" * 11_000_000, "the result was refused"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["async", "sync"])
@pytest.mark.parametrize("name", ODD)
async def test_odd_outcome_fails_its_attempt_and_nothing_else(bunqueue: Bunqueue, name: str, kind: str):
    act, told = ODD[name]
    worker = bunqueue.worker("q", concurrency=1)

    def work(job: Job) -> Any:
        return act() if job.data == "odd" else "well"

    async def work_async(job: Job) -> Any:
        await trio.lowlevel.checkpoint()
        return work(job)

    worker.handler(work if kind == "sync" else work_async)
    bunqueue.start(worker)
    odd, well = await bunqueue.client.push_many("q", [{"data": "odd", "max_attempts": 1}, {"data": "well"}])
    assert await bunqueue.client.wait(well, 10) == "well"
    state = await bunqueue.client.look(odd)
    assert state.state == "failed"
    assert told in str(state.error)
    assert (await bunqueue.client.get(odd)).attempts == 1


async def test_log_that_cannot_be_written_costs_no_job(bunqueue: Bunqueue):
    """Whoever uses the library may have a log that fails: a closed output, or one that has no place for a letter."""

    def fails(*_: object) -> Any:
        raise BrokenPipeError("nobody reads")

    worker = bunqueue.worker("q", concurrency=1)
    worker.handler(lambda job: 1 // job.data)
    before = structlog.get_config()
    structlog.configure(processors=[fails])
    try:
        bunqueue.start(worker)
        bad, good = await bunqueue.client.push_many("q", [{"data": 0, "max_attempts": 1}, {"data": 1}])
        bunqueue.cut()
        assert await bunqueue.client.wait(good, 10) == 1
        assert await bunqueue.client.state(bad) == "failed"
    finally:
        structlog.configure(**before)


async def test_failures_are_not_reported_one_after_the_other(bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch):
    """Each answer takes a second here, as over a long way; acks do not wait behind failures."""
    ask = bunqueue.client._call.__func__  # type: ignore[attr-defined]

    async def slow(client: Any, kind: Any, *rest: Any, **fields: Any) -> Any:
        if kind is c.FailBatch:
            await trio.sleep(1)
        return await ask(client, kind, *rest, **fields)

    monkeypatch.setattr(type(bunqueue.client), "_call", slow)
    worker = bunqueue.worker("q", concurrency=100)

    @worker.handler
    async def handle(job: Job) -> float:
        return 1 // job.data

    ids = await bunqueue.client.push_many("q", [{"data": n, "max_attempts": 1} for n in [0] * 99 + [1]])
    started = bunqueue.elapsed
    bunqueue.start(worker)
    await bunqueue.client.wait(ids[-1], 100)
    assert bunqueue.elapsed - started < 0.5
    await trio.sleep(3)
    assert {await bunqueue.client.state(job_id) for job_id in ids[:-1]} == {"failed"}


async def test_what_is_behind_a_plain_decorator_is_awaited(bunqueue: Bunqueue):
    """It would be a result that has no JSON, and would never run."""

    async def real(job: Job) -> str:
        await trio.sleep(1)
        if job.data == "bad":
            raise ValueError("not well")
        return "well"

    worker = bunqueue.worker("q", timeout=5)

    @worker.handler
    def behind(job: Job) -> Any:
        return real(job)

    bunqueue.start(worker)
    good, bad = await bunqueue.client.push_many("q", [{"data": "good"}, {"data": "bad", "max_attempts": 1}])
    assert await bunqueue.client.wait(good, 10) == "well"
    with pytest.raises(JobFailed, match="ValueError: not well"):
        await bunqueue.client.wait(bad, 10)


# --- threads --------------------------------------------------------------------------------------


class Gate:
    """A sync handler that hangs with the jobs whose payload says so, until it is opened."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.runs: list[Any] = []

    def __call__(self, job: Job) -> Any:
        self.runs.append(job.data)
        if job.data == "hang":
            self.open.wait(60)
        return job.data


@pytest.mark.slow
@on_both
async def test_hung_thread_costs_its_slot_and_nothing_else(server: Server, queue: str):
    """The other jobs run; when no slot is left they wait, uncharged, until one of the threads ends."""
    gate = Gate()
    worker = Worker(queue, ws(server), concurrency=2)
    worker.handler(gate)

    async def hang() -> None:
        worker.timeout = 0.05  # for this one only: others may be slow
        job_id = await client.push(queue, "hang", max_attempts=1)
        with pytest.raises(JobFailed, match="timed out"):
            await client.wait(job_id, 60)
        worker.timeout = math.inf

    async with Client(ws(server)) as client, anyio.create_task_group() as nursery:
        nursery.start_soon(worker.run)
        await hang()
        for n in range(5):
            assert await client.wait(await client.push(queue, n, max_attempts=1), 60) == n
        await hang()
        waiting = await client.push_many(queue, [{"data": n, "max_attempts": 1} for n in range(5)])
        for _ in range(10):  # what comes after a round trip has had time to be pulled
            await client.ping()
        assert {await client.state(job_id) for job_id in waiting} == {"waiting"}
        gate.open.set()
        for n, job_id in enumerate(waiting):
            assert await client.wait(job_id, 60) == n
        worker.stop()


async def test_thread_that_never_began_keeps_no_slot(bunqueue: Bunqueue):
    """Its job is lost between its delivery and its handler."""
    await bunqueue.client.push("q")
    job = await bunqueue.client.pull("q")
    assert job is not None
    threads, runs = Threads(lambda: None), list[Job]()
    with trio.CancelScope() as scope:
        scope.cancel()
        await threads.run(runs.append, job)
    assert (scope.cancelled_caught, threads.left, runs) == (True, 0, [])


@on_both
async def test_handler_waits_for_no_other_thread_of_the_program(server: Server, queue: str):
    """The threads that Trio gives a program are all in use."""
    gate = Gate()
    worker = Worker(queue, ws(server), concurrency=3)
    worker.handler(gate)
    default = anyio.to_thread.current_default_thread_limiter()
    before, default.total_tokens = default.total_tokens, 1
    default.acquire_on_behalf_of_nowait("another part of the program")
    try:
        async with Client(ws(server)) as client, anyio.create_task_group() as nursery:
            nursery.start_soon(worker.run)
            job_id = await client.push(queue, "well")
            assert await client.wait(job_id, 60) == "well"
            worker.stop()
    finally:
        default.release_on_behalf_of("another part of the program")
        default.total_tokens = before


@pytest.mark.slow
@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit(), StopIteration()])
@on_both
async def test_whatever_a_thread_raises_is_reported(server: Server, queue: str, error: BaseException):
    worker = Worker(queue, ws(server), concurrency=1)

    @worker.handler
    def handle(job: Job) -> str:
        if job.data == "bad":
            raise error
        return "well"

    async with Client(ws(server)) as client, anyio.create_task_group() as nursery:
        nursery.start_soon(worker.run)
        bad = await client.push(queue, "bad", max_attempts=1)
        with pytest.raises(JobFailed, match=type(error).__name__):
            await client.wait(bad, 60)
        assert await client.wait(await client.push(queue, "good"), 60) == "well"
        worker.stop()


# --- what is not the handler's --------------------------------------------------------------------


async def test_interrupt_is_the_users(bunqueue: Bunqueue):
    """A key was pressed while a handler ran: the program ends, and the job is charged nothing."""
    worker = bunqueue.worker("q")

    @worker.handler
    async def handle(job: Job) -> None:
        signal.raise_signal(signal.SIGINT)

    job_id = await bunqueue.client.push("q")
    with pytest.RaisesGroup(KeyboardInterrupt, flatten_subgroups=True):
        await worker.run()
    await trio.sleep(0.1)
    assert await bunqueue.client.state(job_id) == "waiting"
    assert (bunqueue.jobs[job_id].attempts, bunqueue.jobs[job_id].stalls) == (0, 0)


@pytest.mark.parametrize("group", [BaseExceptionGroup, OwnGroup])
async def test_a_cancellation_is_found_however_deep(group: type[BaseExceptionGroup[BaseException]]):
    """It is the worker's: if it were taken for the handler's, the worker would go on."""
    with trio.CancelScope() as scope:
        scope.cancel()
        with pytest.raises(trio.Cancelled) as cancelled:
            await trio.lowlevel.checkpoint()
        foreign, _ = parted(group("two", [ValueError("bad"), group("one", [cancelled.value])]))
    assert foreign is cancelled.value


async def test_error_beside_a_cancellation_is_no_failure(bunqueue: Bunqueue, logs: list[MutableMapping[str, Any]]):
    """The worker ends while a task of the handler cleans up badly: the job goes back, uncharged."""
    worker = bunqueue.worker("q")

    async def clean_up_badly() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("in the way")

    @worker.handler
    async def handle(job: Job) -> None:
        async with trio.open_nursery() as tasks:
            tasks.start_soon(clean_up_badly)
            tasks.start_soon(trio.sleep_forever)

    job_id = await bunqueue.client.push("q")
    with trio.move_on_after(1):
        await worker.run()
    await trio.sleep(0.1)
    assert await bunqueue.client.state(job_id) == "waiting"
    assert (bunqueue.jobs[job_id].attempts, bunqueue.jobs[job_id].stalls) == (0, 0)
    assert "job failed" not in [line["event"] for line in logs]


async def test_failures_of_many_jobs_go_together(bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch):
    """While one message is under way the next one gathers; and there is a bound to each."""
    said: list[list[str]] = []
    answers, send, receive = trio.Event(), Pipe.send, Pipe.receive

    async def sent(pipe: Pipe, message: bytes) -> None:
        command = json.loads(message)
        if command["cmd"] == "FAILB":
            said.append([failure["id"] for failure in command["failures"]])
        await send(pipe, message)

    async def received(pipe: Pipe) -> bytes:
        message = await receive(pipe)
        if said:
            await answers.wait()
        return message

    monkeypatch.setattr(Pipe, "send", sent)
    monkeypatch.setattr(Pipe, "receive", received)
    monkeypatch.setattr(c, "FAILURES_MAX", 100)
    worker = bunqueue.worker("q", concurrency=151)
    first, others = trio.Event(), trio.Event()

    @worker.handler
    async def handle(job: Job) -> None:
        await (first if job.data == 0 else others).wait()
        raise ValueError("bad")

    ids = await bunqueue.client.push_many("q", [{"data": n, "max_attempts": 1} for n in range(151)])
    bunqueue.start(worker)
    await trio.sleep(1)
    assert worker.running == 151
    first.set()
    await trio.sleep(0.1)
    others.set()
    await trio.sleep(0.1)
    assert said == [ids[:1]]
    answers.set()
    await trio.sleep(1)
    assert [len(batch) for batch in said] == [1, 100, 50]
    assert sorted(job_id for batch in said for job_id in batch) == sorted(ids)
    assert bunqueue.server.engine.totals.failed == 151
