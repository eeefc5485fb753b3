"""Exceptions that lie, break or cannot be asked anything: each is a failed attempt of its job, and the worker goes on."""

import asyncio
import itertools
import math
import signal
from collections.abc import Callable, MutableMapping
from typing import Any

import anyio
import pytest
import trio

from bunqueue_trio.client import Again, Client, GiveUp, Job, JobFailed, Worker
from bunqueue_trio.client.endings import AFTER_MAX_S, Said, said_by
from bunqueue_trio.client.handlers import Outcome, heard, parted
from bunqueue_trio.client.traces import Traces
from bunqueue_trio.errors import Refused
from bunqueue_trio.testing import Bunqueue
from tests.client.loops import on_both
from tests.client.test_real_server import ws
from tests.wire.server import Server


def breaks(*_: object, **__: object) -> Any:
    raise ValueError("not to be asked")


class OddText(str):
    __slots__ = ()

    __bool__ = __len__ = __format__ = breaks


def odd_text(_: object) -> str:
    return OddText("odd")


PROPERTIES = {
    name: property(breaks)
    for name in ("__class__", "__cause__", "__context__", "__traceback__", "__notes__", "__suppress_context__", "args", "after")
} | {"exceptions": property(breaks)}  # fmt: skip
METHODS = dict.fromkeys(
    ("__str__", "__repr__", "__getattribute__", "__bool__", "__len__", "__eq__", "split", "derive"), breaks
)
ATTRIBUTES: list[dict[str, Any]] = [
    *({name: value} for name, value in (PROPERTIES | METHODS).items()),
    {"__str__": odd_text},
    {"__hash__": breaks, "__eq__": breaks},
    PROPERTIES | METHODS,
]
KINDS: list[tuple[type[BaseException], tuple[Any, ...]]] = [
    (ValueError, ("bad",)),
    (BaseException, ("bad",)),
    (GiveUp, ("bad",)),
    (Again, (5, "bad")),
    (SystemExit, (3,)),
    (KeyboardInterrupt, ()),
    (asyncio.CancelledError, ()),
    (ExceptionGroup, ("bad", [ValueError("one")])),
    (BaseExceptionGroup, ("bad", [KeyboardInterrupt(), SystemExit(1)])),
]


def hostile() -> list[BaseException]:
    """Return one of each kind with each set of attributes, none of them begun by an ``__init__``."""
    made = []
    for (kind, values), attributes in itertools.product(KINDS, [*ATTRIBUTES, {}]):
        odd = type(f"Odd{kind.__name__}", (kind,), attributes)
        made.append(odd.__new__(odd, *values))
    return made


class RateLimited(Again):
    """A mistake that is easily made."""

    def __init__(self) -> None:
        pass


class Unreadable(Again):
    """Has no time that can be read."""

    def __init__(self) -> None:
        pass

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit("not even this")


class Half(Again):
    """Says it in the class."""

    after = 0.5

    def __init__(self) -> None:
        pass


def again(after: Any) -> Again:
    made = Again(1)
    made.after = after
    return made


AFTERS: list[tuple[Again, float | None]] = [
    (RateLimited(), None),
    (Unreadable(), None),
    (Half(), 0.5),
    (again(math.nan), None),
    (again(math.inf), None),
    (again(None), None),
    (again("abc"), None),
    (again("90s"), 90),
    (again(-5), 0),
    (again(1e300), AFTER_MAX_S),
    (again(10**400), None),
    (again(breaks), None),
]


@pytest.mark.parametrize("number", range(len(AFTERS)))
def test_a_time_is_read_once_and_is_one_that_the_server_takes(number: int):
    ending, after = AFTERS[number]
    assert said_by(ending) == Said(gives_up=False, after=after)
    text, _, said = heard(ending, Traces())
    assert said == (False, after)
    assert ("the backoff counts" in text) == (after is None)


@on_both
async def test_whatever_is_raised_has_a_text(loop: str):
    """And none of it is the user's or the worker's doing."""
    for error in hostile():
        if type(error) is asyncio.CancelledError:
            continue
        foreign, own = parted(error)
        assert foreign is None
        assert own is error
        text, trace, _ = heard(error, Traces())
        assert text.encode()
        assert trace is None or trace.encode()


def test_a_group_of_the_same_group_again_and_again_is_looked_at_once():
    error: BaseException = ValueError("at the bottom")
    for _ in range(200):
        error = BaseExceptionGroup("twice", [error, error])

    async def main() -> None:
        assert parted(error) == (None, error)

    trio.run(main)


@pytest.mark.parametrize("kind", ["async", "sync"])
@on_both
@pytest.mark.thorough
async def test_nothing_that_is_raised_ends_a_worker(server: Server, queue: str, kind: str):
    errors = [*hostile(), *(ending for ending, _ in AFTERS)]
    worker = Worker(queue, ws(server), concurrency=20)

    def work(job: Job) -> Any:
        if job.data is None:
            return "well"
        raise errors[job.data]

    async def work_async(job: Job) -> Any:
        return work(job)

    worker.handler(work if kind == "sync" else work_async)
    async with Client(ws(server)) as client, anyio.create_task_group() as running:
        running.start_soon(worker.run)
        ids = await client.push_many(queue, [{"data": n, "max_attempts": 1} for n in range(len(errors))])
        with anyio.fail_after(60):
            for job_id in ids:
                with pytest.raises(JobFailed):
                    await client.wait(job_id, 60)
            assert {(await client.get(job_id)).attempts for job_id in ids} == {1}
            assert await client.wait(await client.push(queue), 60) == "well"
        worker.stop()


@pytest.mark.parametrize("error", [again(1e300), again(-5), RateLimited(), again("abc")])
async def test_a_time_that_was_changed_costs_its_attempt_and_no_more(bunqueue: Bunqueue, error: Again):
    worker = bunqueue.worker("q", concurrency=1)

    @worker.handler
    async def handle(job: Job) -> None:
        raise error

    bunqueue.start(worker)
    job_id = await bunqueue.client.push("q", backoff=1000, max_attempts=9)
    await trio.sleep(0.5)
    assert (await bunqueue.client.get(job_id)).attempts >= 1
    await trio.sleep(0.5)
    assert (await bunqueue.client.state(job_id), worker.running) in [("delayed", 0), ("failed", 0)]


# --- a time-out, a cancelled job, or the end of the worker in the same moment ---------------------


class Stubborn(ExceptionGroup[Exception]):  # noqa: ASYNC126 - it is hostile
    """One that a scope cannot take apart, nor ask what it is."""

    __class__ = property(breaks)  # type: ignore[assignment]
    split = derive = breaks


@on_both
async def test_what_is_raised_at_a_time_out_meets_no_scope(server: Server, queue: str):
    """A scope that is broken by an exception stays open, and its task with it."""
    worker = Worker(queue, ws(server), concurrency=1)

    @worker.handler
    async def handle(job: Job) -> str:
        if job.data is None:
            return "well"
        try:
            await anyio.sleep_forever()
        finally:
            raise Stubborn("in the way", [ValueError("one")])

    async with Client(ws(server)) as client, anyio.create_task_group() as running:
        worker.timeout = 0.2
        running.start_soon(worker.run)
        with anyio.fail_after(60):
            bad = await client.push(queue, "bad", max_attempts=1)
            with pytest.raises(JobFailed, match="Stubborn"):
                await client.wait(bad, 60)
            worker.timeout = math.inf
            assert await client.wait(await client.push(queue), 60) == "well"
        worker.stop()


# --- a cancellation that a handler has kept -------------------------------------------------------


async def kept() -> BaseException:
    """Return the cancellation that a scope of the handler's own has caught, as a library does that keeps the last error."""
    found: list[BaseException] = []
    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            await anyio.sleep(1)
        except BaseException as error:
            found.append(error)
            raise
    return found[0]


def inner() -> None:
    """Raise it in a loop of the handler's own, in its thread."""

    async def main() -> None:
        raise BaseExceptionGroup("of its own loop", [await kept()])

    trio.run(main)


KEPT: dict[str, Callable[[BaseException], BaseException]] = {
    "alone": lambda error: error,
    "in a group": lambda error: BaseExceptionGroup("all", [error]),
    "beside another": lambda error: BaseExceptionGroup("all", [error, ValueError("one")]),
    "deep in groups": lambda error: BaseExceptionGroup("all", [ValueError("one"), BaseExceptionGroup("some", [error])]),
}


@on_both
async def test_a_cancellation_that_a_handler_has_kept_is_a_failed_attempt(server: Server, queue: str):
    """It is the handler's, as anything else that it raises: nobody has cancelled the worker."""
    worker = Worker(queue, ws(server), concurrency=1)

    @worker.handler
    async def handle(job: Job) -> str:
        if job.data is None:
            return "well"
        raise KEPT[job.data](await kept())

    @worker.handler(name="in a thread")
    def handle_in_thread(job: Job) -> None:
        inner()

    async with Client(ws(server)) as client, anyio.create_task_group() as running:
        running.start_soon(worker.run)
        with anyio.fail_after(60):
            bad = [await client.push(queue, data, max_attempts=1) for data in KEPT]
            bad.append(await client.push(queue, name="in a thread", max_attempts=1))
            for job_id in bad:
                with pytest.raises(JobFailed, match=r"Cancelled|sub-exception"):
                    await client.wait(job_id, 60)
            assert await client.wait(await client.push(queue), 60) == "well"
        worker.stop()


@pytest.mark.parametrize("raises", KEPT.values(), ids=KEPT)
async def test_a_worker_that_is_cancelled_ends_whatever_its_handler_has_kept(
    bunqueue: Bunqueue, raises: Callable[[BaseException], BaseException]
):
    worker = bunqueue.worker("q")

    @worker.handler
    async def handle(job: Job) -> None:
        earlier = await kept()
        try:
            await trio.sleep_forever()
        finally:
            raise raises(earlier)

    job_id = await bunqueue.client.push("q", max_attempts=1)
    with trio.move_on_after(1) as ended:
        await worker.run()
    assert ended.cancelled_caught
    await trio.sleep(0.1)
    assert (await bunqueue.client.state(job_id), bunqueue.jobs[job_id].attempts) == ("waiting", 0)


# --- a key that was pressed, and one that was not -------------------------------------------------


async def test_an_interrupt_that_a_handler_makes_up_is_a_failed_attempt(bunqueue: Bunqueue):
    worker = bunqueue.worker("q", concurrency=1)

    @worker.handler
    async def handle(job: Job) -> str:
        if job.data is None:
            return "well"
        raise KeyboardInterrupt if job.data == "alone" else BaseExceptionGroup("all", [KeyboardInterrupt()])

    bunqueue.start(worker)
    for data in ("alone", "in a group"):
        bad = await bunqueue.client.push("q", data, max_attempts=1)
        await trio.sleep(1)
        assert (await bunqueue.client.state(bad), bunqueue.server.engine.totals.failed > 0) == ("failed", True)
    assert await bunqueue.client.wait(await bunqueue.client.push("q"), 10) == "well"


@on_both
async def test_a_thread_that_runs_a_loop_of_its_own_is_no_key(server: Server, queue: str):
    """As the documents recommend: `asyncio.run` in a sync handler, where a group has an interrupt in it."""
    worker = Worker(queue, ws(server), concurrency=1)

    async def real() -> None:
        raise BaseExceptionGroup("all", [ValueError("one"), KeyboardInterrupt()])

    @worker.handler
    def handle(job: Job) -> str:
        if job.data is None:
            return "well"
        anyio.run(real)
        raise AssertionError

    async with Client(ws(server)) as client, anyio.create_task_group() as running:
        running.start_soon(worker.run)
        with anyio.fail_after(60):
            bad = await client.push(queue, "bad", max_attempts=1)
            with pytest.raises(JobFailed, match="KeyboardInterrupt"):
                await client.wait(bad, 60)
            assert await client.wait(await client.push(queue), 60) == "well"
        worker.stop()


@pytest.mark.parametrize("in_a_nursery", [False, True])
def test_a_key_that_was_pressed_ends_the_program_on_trio(in_a_nursery: bool):
    raised = _run_interrupted("trio", in_a_nursery=in_a_nursery)
    assert len(raised) == 1


def test_a_second_key_ends_the_program_on_asyncio():
    """The first one cancels the main task; the second one interrupts what runs."""
    assert len(_run_interrupted("asyncio", in_a_nursery=False)) == 1


def _run_interrupted(loop: str, *, in_a_nursery: bool) -> list[BaseException]:
    """Return what of an interrupt is the user's, where a handler was interrupted."""
    found: list[BaseException] = []

    async def press() -> None:
        for _ in range(1 if loop == "trio" else 2):
            signal.raise_signal(signal.SIGINT)

    async def main() -> None:
        try:
            if in_a_nursery:
                async with anyio.create_task_group() as tasks:  # noqa: ASYNC112 - what a nursery makes of it
                    tasks.start_soon(press)
            else:
                await press()
        except BaseException as raised:  # noqa: ASYNC103 - an interrupt, and nothing is awaited any more
            foreign, own = parted(raised)
            assert own is None
            assert type(foreign) is KeyboardInterrupt
            found.append(foreign)

    try:
        anyio.run(main, backend=loop)
    except KeyboardInterrupt:
        # Of asyncio: the main task was cancelled, too.
        assert loop == "asyncio"
    return found


# --- a report that the server does not take -------------------------------------------------------


async def test_a_report_that_is_refused_is_sent_again_in_a_form_that_cannot_be(
    bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch, logs: list[MutableMapping[str, Any]]
):
    """Else the job comes back with no attempt charged, and is refused again, for ever."""
    fail, said = Client.fail, list[Any]()

    async def picky(client: Client, job_id: str, error: str | None = None, **how: Any) -> None:
        said.append(how.get("retry_in"))
        if how.get("retry_in") is not None or how.get("stack") is not None:
            raise Refused(400, "retryIn must be less", "invalid-field")
        await fail(client, job_id, error, **how)

    async def refused(client: Client, command: Any) -> Any:
        raise Refused(400, "one of them is odd", "invalid-field")

    worker = bunqueue.worker("q", concurrency=1)

    @worker.handler
    async def handle(job: Job) -> None:
        raise Again(7, "later")

    job_id = await bunqueue.client.push("q", max_attempts=1)
    monkeypatch.setattr(Client, "fail", picky)
    monkeypatch.setattr(Client, "run", refused)
    bunqueue.start(worker)
    await trio.sleep(1)
    assert (await bunqueue.client.state(job_id), said) == ("failed", [7, None])
    assert "the error was refused: invalid-field" in str((await bunqueue.client.look(job_id)).error)


def test_outcome_has_only_plain_values():
    """What a handler raised is not asked again once its outcome is made."""
    said = heard(GiveUp("never"), Traces())[2]
    assert Outcome.__annotations__["ending"] == Said | None
    assert type(said) is Said
