"""What a handler says of its job beyond that it has failed: never again, or when."""

import asyncio
import copy
import math
import pickle
from collections.abc import Callable, Iterator, MutableMapping
from datetime import timedelta
from typing import Any

import anyio.from_thread
import pytest
import structlog
import trio

import bunqueue_trio
from bunqueue_trio.client import Again, Backoff, GiveUp, Job
from bunqueue_trio.client.endings import AFTER_MAX_S, ending_of
from bunqueue_trio.commands import Dlq
from bunqueue_trio.errors import BunqueueError, ConnectionLost, JobFailed, JobRemoved, Refused, ServerUnavailable
from bunqueue_trio.sync import SyncClient
from bunqueue_trio.testing import Bunqueue

Lines = list[MutableMapping[str, Any]]


@pytest.fixture(autouse=True)
def everything() -> Iterator[None]:
    """Another test may have set a level."""
    before = structlog.get_config()["wrapper_class"]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(0))
    yield
    structlog.configure(wrapper_class=before)


def failures(lines: Lines) -> Lines:
    return [line for line in lines if line["event"] == "job failed"]


class NoSuchAddress(GiveUp):
    """Of a user."""


async def gives_up(job: Job) -> None:
    raise GiveUp("no such address")


def gives_up_in_a_thread(job: Job) -> None:
    raise GiveUp("no such address")


def gives_up_in_asyncio(job: Job) -> None:
    asyncio.run(gives_up(job))


async def gives_up_in_a_nursery(job: Job) -> None:
    async with trio.open_nursery() as outer:
        outer.start_soon(trio.sleep_forever)
        async with trio.open_nursery() as inner:
            inner.start_soon(trio.sleep_forever)
            inner.start_soon(gives_up, job)


@pytest.mark.parametrize("handler", [gives_up, gives_up_in_a_thread, gives_up_in_asyncio, gives_up_in_a_nursery])
async def test_a_job_that_is_given_up_is_dead_at_once(bunqueue: Bunqueue, logs: Lines, handler: Any):
    worker = bunqueue.worker("emails")
    worker.handler(handler)
    bunqueue.start(worker)
    job_id = await bunqueue.client.push("emails", max_attempts=5)
    with pytest.raises(bunqueue_trio.JobFailed, match="GiveUp: no such address"):
        await bunqueue.client.wait(job_id, 10)
    (dead,) = (await bunqueue.client.run(Dlq(queue="emails"))).entries
    assert (dead.reason, dead.job.attempts) == ("unrecoverable", 1)
    await trio.sleep(0.1)
    (line,) = failures(logs)
    assert (line["next"], line["attempt"], line["error"]) == ("dead: given up", "1 of 5", "GiveUp: no such address")
    assert "exception" not in line


async def test_what_made_a_handler_give_up_is_in_the_log(bunqueue: Bunqueue, logs: Lines):
    worker = bunqueue.worker("q")

    @worker.handler
    async def handle(job: Job) -> None:
        try:
            _ = {}["who"]
        except KeyError as error:
            raise NoSuchAddress("nobody") from error

    bunqueue.start(worker)
    job_id = await bunqueue.client.push("q")
    await trio.sleep(1)
    said = await bunqueue.client.look(job_id)
    assert (said.state, said.error) == ("failed", "NoSuchAddress: nobody")
    (line,) = failures(logs)
    assert "KeyError: 'who'" in line["exception"]
    assert line["next"] == "dead: given up"


async def test_again_comes_when_it_says_as_long_as_there_are_attempts(bunqueue: Bunqueue, logs: Lines):
    worker = bunqueue.worker("q")
    starts: list[float] = []

    @worker.handler
    async def handle(job: Job) -> None:
        starts.append(bunqueue.elapsed)
        raise Again(after=[30, 0, 7.5][job.attempts], reason="429")

    bunqueue.start(worker)
    job_id = await bunqueue.client.push("q", backoff=1000, max_attempts=3)
    with pytest.raises(bunqueue_trio.JobFailed, match="Again: 429"):
        await bunqueue.client.wait(job_id, 100)
    assert starts == [pytest.approx(0, abs=0.1), pytest.approx(30, abs=0.1), pytest.approx(30, abs=0.2)]
    await trio.sleep(0.1)
    assert [line["next"] for line in failures(logs)] == ["in 30 s", "in 0 s", "dead"]
    assert {line["error"] for line in failures(logs)} == {"Again: 429"}
    (dead,) = (await bunqueue.client.run(Dlq(queue="q"))).entries
    assert dead.reason == "max_attempts_exceeded"


async def test_what_a_handler_says_while_its_time_runs_out_counts(bunqueue: Bunqueue, logs: Lines):
    worker = bunqueue.worker("q", timeout=2)

    async def asks(job: Job) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise GiveUp("too slow for ever")

    @worker.handler
    async def handle(job: Job) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(asks, job)
            nursery.start_soon(trio.sleep_forever)

    bunqueue.start(worker)
    job_id = await bunqueue.client.push("q")
    await trio.sleep(3)
    said = await bunqueue.client.look(job_id)
    assert (said.state, said.error) == ("failed", "GiveUp: too slow for ever")


async def releases(job: Job) -> None:
    await job.release()


def releases_in_a_thread(job: Job) -> None:
    anyio.from_thread.run(job.release)


async def acknowledges(job: Job) -> str:
    await job.ack("early")
    return "late"


async def fails_by_itself(job: Job) -> str:
    await job.fail("not yet", retry_in=1)
    return "late"


@pytest.mark.parametrize(
    ("handler", "how", "result", "attempts"),
    [
        (releases, "given back", "again", 0), (releases_in_a_thread, "given back", "again", 0),
        (acknowledges, "completed", "early", 0), (fails_by_itself, "failed", "again", 1),
    ],
)  # fmt: skip
async def test_a_handler_may_end_its_job_by_itself(
    bunqueue: Bunqueue, logs: Lines, handler: Any, how: str, result: str, attempts: int
):
    """It is not reported a second time, and no line says that it had been lost."""
    worker, runs = bunqueue.worker("q", concurrency=1), list[int]()

    async def second(job: Job) -> str:
        await trio.lowlevel.checkpoint()
        return "again"

    def work(job: Job) -> Any:
        runs.append(job.attempts)
        return handler(job) if len(runs) == 1 else second(job)

    async def work_async(job: Job) -> Any:
        return await work(job)

    in_thread = handler is releases_in_a_thread
    worker.handler((lambda job: work(job) if not runs else "again") if in_thread else work_async)
    bunqueue.start(worker)
    job_id = await bunqueue.client.push("q", max_attempts=2)
    assert await bunqueue.client.wait(job_id, 10) == result
    assert (await bunqueue.client.get(job_id)).attempts == attempts
    ends = [line for line in logs if line["event"].startswith("job ")]
    assert (ends[0]["event"], ends[0]["how"]) == ("job was ended by its handler", how)
    assert [line["event"] for line in ends[1:]] == ([] if result == "early" else ["job completed"])


async def test_two_things_that_go_wrong_at_once_are_a_failure_like_any_other(bunqueue: Bunqueue, logs: Lines):
    worker = bunqueue.worker("q")

    @worker.handler
    async def handle(job: Job) -> None:
        raise ExceptionGroup("both", [GiveUp("never"), ValueError("no")])

    bunqueue.start(worker)
    job_id = await bunqueue.client.push("q", backoff=50)
    await trio.sleep(1)
    assert await bunqueue.client.state(job_id) == "delayed"
    (line,) = failures(logs)
    assert "GiveUp: never" in line["exception"]


def test_what_is_said_is_found_however_deep_and_alone():
    one = GiveUp("x")
    assert ending_of(one) is one
    assert ending_of(BaseExceptionGroup("", [ExceptionGroup("", [one])])) is one
    assert ending_of(ExceptionGroup("", [one, one])) is None
    assert ending_of(ValueError(one)) is None


def test_again_survives_a_process_pool_and_takes_times_as_they_come():
    again = pickle.loads(pickle.dumps(Again(after=30, reason="busy")))
    assert (again.after, again.reason, str(again)) == (30, "busy", "busy")
    assert (Again(-5).after, str(Again(1))) == (0, "")
    assert [Again(after).after for after in ("1s", "2m", "30", timedelta(hours=1))] == [1, 120, 30, 3600]
    assert Again(AFTER_MAX_S).after == AFTER_MAX_S
    for wrong in (math.nan, math.inf, AFTER_MAX_S + 1, "Wed, 21 Oct 2015 07:28:00 GMT"):
        with pytest.raises(ValueError, match="after must "):
            Again(wrong)


def raised_kinds() -> list[type[BunqueueError]]:
    kinds: list[type[BunqueueError]] = [BunqueueError]
    for kind in kinds:
        kinds += [each for each in kind.__subclasses__() if each.__module__ == kind.__module__]
    return kinds


RAISED: list[BunqueueError] = [
    Refused(409, "no", "taken", retry_after=3),
    ServerUnavailable("later", 2.5, code="standby"),
    ConnectionLost("sent"),
    JobFailed("j1", "it broke"),
    JobRemoved("j2", "gone"),
    BunqueueError("any"),
]


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("again", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy], ids=["pickle", "copy"])
def test_what_a_client_raises_survives_a_process_pool(error: BunqueueError, again: Callable[[Any], Any]):
    """Where it did not, the pool would wait for ever for what it cannot read."""
    error.add_note("job_id='j3'")
    found = again(error)
    assert (type(found), str(found), found.args, vars(found)) == (type(error), str(error), error.args, vars(error))
    assert {type(one) for one in RAISED} == set(raised_kinds())


def test_a_name_that_is_none_is_refused_by_its_name():
    with SyncClient("http://localhost:1") as client, pytest.raises(Refused, match=r"queue is required"):
        client.push(None, 1)  # type: ignore[arg-type]


def test_a_whole_program_has_them_at_hand():
    assert (bunqueue_trio.GiveUp, bunqueue_trio.Again) == (GiveUp, Again)


async def test_who_pulls_by_hand_may_say_the_same(bunqueue: Bunqueue):
    client = bunqueue.client
    given_up, later, back = [await client.push("q", n, backoff=0, max_attempts=2) for n in range(3)]
    jobs = await client.pull_many("q", 3)
    await jobs[0].fail("no", unrecoverable=True)
    await jobs[1].fail("not now", retry_in=60)
    await jobs[2].release()
    assert [await client.state(job_id) for job_id in (given_up, later, back)] == ["failed", "delayed", "waiting"]
    assert (await client.get(later)).run_at == pytest.approx((await client.get(later)).created_at + 60, abs=1)
    await trio.sleep(60)
    assert {job.id: job.attempts for job in await client.pull_many("q", 3)} == {back: 0, later: 1}
    await client.release(back)
    with pytest.raises(bunqueue_trio.Refused, match="exclude each other"):
        await client.fail(later, unrecoverable=True, retry_in=0)


async def test_a_backoff_is_given_and_shown_in_seconds(bunqueue: Bunqueue):
    fixed: Backoff = {"type": "fixed", "delay": 5}
    doubling: Backoff = {"type": "exponential", "delay": 1.5, "max_delay": 2.5, "jitter": 0.5}
    for given in (0.5, fixed, doubling):
        (job_id,) = await bunqueue.client.push_many("q", [{"backoff": given}])
        assert (await bunqueue.client.get(job_id)).backoff == given
    job_id = await bunqueue.client.push("q", backoff={"type": "fixed", "delay": 5, "max_delay": None})
    assert (await bunqueue.client.get(job_id)).backoff == fixed
    with pytest.raises(TypeError, match="a backoff has no option 'max'"):
        await bunqueue.client.push("q", backoff={"type": "fixed", "delay": 1, "max": 2})
    with pytest.raises(bunqueue_trio.Refused, match=r"backoff.delay is required"):
        await bunqueue.client.push("q", backoff={"type": "fixed"})


async def test_attempts_of_a_fixed_backoff_are_as_far_apart_each(bunqueue: Bunqueue):
    worker = bunqueue.worker("q")
    starts: list[float] = []

    @worker.handler
    async def handle(job: Job) -> None:
        starts.append(bunqueue.elapsed)
        raise ValueError

    bunqueue.start(worker)
    await bunqueue.client.push("q", max_attempts=4, backoff={"type": "fixed", "delay": 10})
    await trio.sleep(100)
    assert [round(at) for at in starts] == [0, 10, 20, 30]
