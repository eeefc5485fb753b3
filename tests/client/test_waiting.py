"""`wait` tells each end by its name, whatever was missed meanwhile, and a time-out tells where the job stands."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from bunqueue_trio.client import ConnectionLost, Job, JobFailed, JobRemoved, Refused
from bunqueue_trio.config import Settings
from bunqueue_trio.errors import JOB_NOT_FOUND, NOT_FOUND
from bunqueue_trio.protocol.events import Event
from bunqueue_trio.testing import Bunqueue


async def outcome(wait: Awaitable[Any]) -> object:
    try:
        return await wait
    except (JobFailed, ConnectionLost, Refused) as error:
        return type(error), str(error)


def in_background(nursery: trio.Nursery, bunqueue: Bunqueue, job_id: str) -> list[object]:
    ends: list[object] = []

    async def wait() -> None:
        ends.append(await outcome(bunqueue.client.wait(job_id)))

    nursery.start_soon(wait)
    return ends


ENDS: dict[str, tuple[dict[str, Any], str, object]] = {
    "completed": ({}, "ack", "result"),
    "completed and removed": ({"remove_on_complete": True}, "ack", None),
    "dead": ({"max_attempts": 1}, "fail", (JobFailed, "bad")),
    "dead and removed": ({"max_attempts": 1, "remove_on_fail": True}, "fail", (JobFailed, "bad")),
    "cancelled": ({}, "cancel", (JobRemoved, "cancelled")),
    "retried and completed": ({"backoff": 0, "remove_on_complete": True}, "fail, ack", None),
    "retried and cancelled": ({"backoff": 0}, "fail, cancel", (JobRemoved, "cancelled")),
    "given back and completed": ({"remove_on_complete": True}, "release, ack", None),
}


async def end(bunqueue: Bunqueue, job_id: str, how: str) -> None:
    other = bunqueue.connect()
    async with other:
        for step in how.split(", "):
            if step == "cancel":
                await other.cancel(job_id)
                continue
            job = await other.pull("q", timeout=5)
            assert job is not None
            if step == "ack":
                await job.ack("result")
            elif step == "fail":
                await job.fail("bad")
            else:
                await other._upkeep.link.ask("Release", {"id": job.id, "token": job.token})  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("way", ["at once", "late", "narrow"])
async def test_each_end_has_its_answer(
    bunqueue: Bunqueue, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, name: str, way: str
):
    """Also when all has happened before the next look at the job, and when events come far behind the answers."""
    options, how, expected = ENDS[name]
    job_id = await bunqueue.client.push("q", **options)
    ends = in_background(nursery, bunqueue, job_id)
    await trio.sleep(1)
    if way == "narrow":
        monkeypatch.setattr("bunqueue_trio.api.session.RECEIVE_BYTES", 1)  # one event after each answer
        for other in await bunqueue.client.push_many("noise", [{}] * 30):
            await bunqueue.client.cancel(other)
    if way == "late":
        look = type(bunqueue.client).look

        async def late(client: Any, job_id: str) -> Any:
            await trio.sleep(3)
            return await look(client, job_id)

        monkeypatch.setattr(type(bunqueue.client), "look", late)
    await end(bunqueue, job_id, how)
    await trio.sleep(20)
    assert ends == [expected]


@pytest.mark.parametrize("way", ["same client", "another client", "late", "in force"])
async def test_job_that_was_cancelled_before_is_not_there(
    bunqueue: Bunqueue, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, way: str
):
    """Whether the event of it comes before the wait or within it is chance."""
    client = bunqueue.client
    if way in {"in force", "late"}:
        in_background(nursery, bunqueue, await client.push("q"))
        await trio.sleep(1)
    if way == "late":
        monkeypatch.setattr("bunqueue_trio.api.session.RECEIVE_BYTES", 1)  # one event after each answer
        for other in await client.push_many("noise", [{}] * 30):
            await client.cancel(other)
    job_id = await client.push("q", ttl=1000)
    if way == "another client":
        async with bunqueue.connect() as other_client:
            await other_client.cancel(job_id)
    else:
        await client.cancel(job_id)
    assert await outcome(client.wait(job_id)) == (Refused, "Job not found")


async def test_expired_job_is_distinguished_from_a_failed_one(bunqueue: Bunqueue):
    job_id = await bunqueue.client.push("q", ttl=5)
    with pytest.raises(JobRemoved, match="time to live"):
        await bunqueue.client.wait(job_id)


@pytest.mark.parametrize(
    ("options", "how", "expected"),
    [
        ({}, "ack", "result"),
        ({"max_attempts": 1}, "fail", (JobFailed, "bad")),
        ({"remove_on_complete": True}, "ack", (ConnectionLost, "how is not known")),
        ({"remove_on_complete": True, "backoff": 0}, "fail, ack", (ConnectionLost, "how is not known")),
        ({"max_attempts": 1, "remove_on_fail": True}, "fail", (ConnectionLost, "how is not known")),
        ({}, "cancel", (ConnectionLost, "how is not known")),
    ],
)
@pytest.mark.parametrize("heard", [False, True])
async def test_end_in_a_gap_is_never_guessed(
    bunqueue: Bunqueue, nursery: trio.Nursery, options: dict[str, Any], how: str, expected: Any, heard: bool
):
    """A failed try that was heard before the gap says nothing of what came in it."""
    if heard:
        options = options | {"backoff": 0, "max_attempts": options.get("max_attempts", 3) + 1}
    job_id = await bunqueue.client.push("q", **options)
    ends = in_background(nursery, bunqueue, job_id)
    await trio.sleep(1)
    if heard:
        await end(bunqueue, job_id, "fail")
    await trio.sleep(1)
    link = bunqueue.client._upkeep.link
    for pipe in list(bunqueue._lives.pipes):
        assert link is not None
        if pipe is link._connection:
            pipe.cut()
    other = bunqueue.connect()
    async with other:
        pass
    await end(bunqueue, job_id, how)
    await trio.sleep(5)  # without waiting for an event that does not come
    assert len(ends) == 1
    if isinstance(expected, tuple):
        assert isinstance(ends[0], tuple)
        assert ends[0][0] is expected[0]
        assert expected[1] in ends[0][1]
    else:
        assert ends == [expected]


@pytest.mark.parametrize("step", ["waiting", "active", "delayed"])
async def test_time_out_tells_where_the_job_stands(bunqueue: Bunqueue, step: str):
    job_id = await bunqueue.client.push("emails", delay=60 if step == "delayed" else 0)
    other = bunqueue.connect()
    async with other, trio.open_nursery() as nursery:
        if step == "active":
            nursery.start_soon(other.pull, "emails")
        with pytest.raises(trio.TooSlowError, match=f"job {job_id} of queue emails is {step} after 5 s"):
            await bunqueue.client.wait(job_id, 5)
    await bunqueue.crash()
    with pytest.raises(trio.TooSlowError, match="no server answers"):
        await bunqueue.client.wait(job_id, 5)


@pytest.mark.parametrize(("how", "expected"), [("ack", "result"), ("fail", (JobFailed, "bad"))])
async def test_job_that_ended_in_the_last_moment_is_no_time_out(
    bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch, how: str, expected: object
):
    """Only the last look is answered."""
    job_id = await bunqueue.client.push("q", max_attempts=1)
    look, slow_s = bunqueue.client.look, [9, 0]

    async def late(job_id: str) -> Any:
        await trio.sleep(slow_s.pop(0))
        return await look(job_id)

    monkeypatch.setattr(bunqueue.client, "look", late)
    await end(bunqueue, job_id, how)
    assert await outcome(bunqueue.client.wait(job_id, 5)) == expected


async def test_time_out_without_the_result_says_that_it_is_completed(
    bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch
):
    job_id = await bunqueue.client.push("q")
    await end(bunqueue, job_id, "ack")

    async def never(job_id: str) -> Any:
        await trio.sleep_forever()

    monkeypatch.setattr(bunqueue.client, "result", never)
    with pytest.raises(trio.TooSlowError, match="is completed, but its result has not come after 5 s"):
        await bunqueue.client.wait(job_id, 5)


async def test_result_that_is_not_kept_any_more_is_not_none(bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch):
    """The server made room between the look and the question for the result."""
    job_id = await bunqueue.client.push("q")
    await end(bunqueue, job_id, "ack")

    async def gone(job_id: str) -> Any:
        raise JOB_NOT_FOUND.refuse()

    monkeypatch.setattr(bunqueue.client, "result", gone)
    with pytest.raises(ConnectionLost, match="is completed, and its result is not kept any more"):
        await bunqueue.client.wait(job_id)


async def test_event_that_does_not_come_is_no_cut(
    bunqueue: Bunqueue, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
):
    job_id = await bunqueue.client.push("q", remove_on_complete=True)
    publish = bunqueue.client._streams.publish

    def mistaken(event: Event) -> None:
        event.event_type = "retried"
        publish(event)

    ends = in_background(nursery, bunqueue, job_id)
    await trio.sleep(1)
    monkeypatch.setattr(bunqueue.client._streams, "publish", mistaken)
    await end(bunqueue, job_id, "ack")
    await trio.sleep(20)
    told = f"job {job_id} ended, its event did not come in 10 s, and no record of it is kept: how is not known"
    assert ends == [(ConnectionLost, told)]


async def test_other_refusals_with_the_same_status_are_the_callers(
    bunqueue: Bunqueue, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
):
    """A 404 of a kind that says nothing of the job."""
    job_id = await bunqueue.client.push("q")
    ends = in_background(nursery, bunqueue, job_id)
    await trio.sleep(1)

    async def refused(job_id: str) -> Any:
        raise NOT_FOUND.refuse()

    monkeypatch.setattr(bunqueue.client, "look", refused)
    await end(bunqueue, job_id, "ack")
    await trio.sleep(1)
    assert ends == [(Refused, "Not found")]


async def test_time_out_of_ones_own_is_left_alone(bunqueue: Bunqueue):
    job_id = await bunqueue.client.push("q")
    with trio.move_on_after(2) as scope:
        await bunqueue.client.wait(job_id, 5)
    assert scope.cancelled_caught
    assert bunqueue.elapsed == pytest.approx(2)


async def test_job_of_another_queue_is_not_waited_for(bunqueue: Bunqueue):
    client = bunqueue.connect(queue="mine")
    async with client:
        job_id = await client.push("theirs")
        with pytest.raises(ValueError, match="of queue theirs"):
            await client.wait(job_id)


@pytest.fixture
def bunqueue_settings() -> Settings:
    return Settings()


Act = Callable[[], Awaitable[Any]]


async def test_client_that_is_not_open_says_so(bunqueue: Bunqueue):
    client = bunqueue.connect()
    with pytest.raises(RuntimeError, match="not open"):
        await client.ping()
    errors: list[str] = []
    job_id = await bunqueue.client.push("q")

    async def told(act: Act) -> None:
        try:
            await act()
        except RuntimeError as error:
            errors.append(str(error))

    async with trio.open_nursery() as nursery:
        async with client:
            await client.ping()
            nursery.start_soon(told, lambda: client.pull("none", timeout=60))
            nursery.start_soon(told, lambda: client.wait(job_id))
            await trio.sleep(1)
        started = bunqueue.elapsed
        nursery.start_soon(told, client.ping)
    assert len(errors) == 3
    assert all("not open" in error for error in errors)
    assert bunqueue.elapsed - started < 1


async def test_client_that_is_left_keeps_nobody(bunqueue: Bunqueue):
    """A command that waits for a connection ends with the block, not with its patience."""
    await bunqueue.crash()
    async with trio.open_nursery() as nursery, bunqueue.connect() as client:
        ends: list[str] = []

        async def ping() -> None:
            try:
                await client.ping()
            except RuntimeError as error:
                ends.append(str(error))

        nursery.start_soon(ping)
        await trio.sleep(1)
    assert len(ends) == 1
    assert bunqueue.elapsed < 2


async def test_waiting_pulls_delay_nothing_else(bunqueue: Bunqueue, nursery: trio.Nursery):
    for _ in range(500):
        nursery.start_soon(lambda: bunqueue.client.pull("idle", timeout=60))
    await trio.sleep(1)
    started = bunqueue.elapsed
    await bunqueue.client.push("q")
    job = await bunqueue.client.pull("q")
    assert isinstance(job, Job)
    await job.ack()
    assert bunqueue.elapsed == started
    nursery.cancel_scope.cancel()


async def test_every_reader_hears_from_the_beginning_of_its_block(bunqueue: Bunqueue, nursery: trio.Nursery):
    """Two readers of the same types that begin before the client is connected."""
    await bunqueue.crash()
    client = bunqueue.connect()
    async with client:
        await trio.sleep(1)
        heard: list[tuple[int, str]] = []

        async def read(number: int) -> None:
            async with client.events("pushed") as events:
                job_id = await bunqueue.client.push("q")
                async for event in events:
                    if event.job_id == job_id:
                        heard.append((number, event.event_type))
                        return

        for number in range(2):
            nursery.start_soon(read, number)
        await trio.sleep(1)
        await bunqueue.recover()
        await trio.sleep(20)
        assert sorted(heard) == [(0, "pushed"), (1, "pushed")]


async def test_reader_that_gave_up_takes_no_events_from_the_next(bunqueue: Bunqueue, nursery: trio.Nursery):
    client = bunqueue.client
    async with client.events("pushed"):
        for gives_up in (True, False):
            job_id = await client.push("q")
            ends = in_background(nursery, bunqueue, job_id)
            await trio.sleep(1)
            await end(bunqueue, job_id, "ack")
            await trio.sleep(1)
            assert ends == ["result"]
            if gives_up:
                with trio.CancelScope() as scope:
                    scope.cancel()
                    async with client.events("progress"):  # the server is asked, and nobody waits for its answer
                        pass
                assert scope.cancelled_caught
