"""Client and worker against the real server in virtual time."""

from collections.abc import MutableMapping
from typing import Any

import pytest
import trio

from bunqueue_trio.client import Job, JobFailed, Refused, ServerUnavailable
from bunqueue_trio.testing import Bunqueue

DAY_S = 24 * 3600


async def test_push_pull_ack(bunqueue: Bunqueue):
    client = bunqueue.client
    job_id = await client.push("q", {"to": "ä"}, priority=3, tags=["x"])
    job = await client.pull("q")
    assert job is not None
    assert (job.id, job.data, job.priority) == (job_id, {"to": "ä"}, 3)
    assert await client.state(job_id) == "active"
    await job.progress(50, "half")
    assert (await client.get(job_id)).progress == 50
    await job.ack({"sent": True})
    assert await client.result(job_id) == {"sent": True}
    assert await client.wait(job_id, 1) == {"sent": True}
    assert await client.pull("q") is None


async def test_batches(bunqueue: Bunqueue):
    client = bunqueue.client
    ids = await client.push_many("q", [{"data": n} for n in range(5)])
    assert await client.push_many("q", []) == []
    jobs = await client.pull_many("q", 10)
    assert [job.id for job in jobs] == ids
    tokens = [job.token for job in jobs]
    assert await client.heartbeats(ids, tokens=tokens) == []
    await client.cancel(ids[0])
    assert await client.heartbeats(ids, tokens=tokens) == ids[:1]
    assert await client.ack_many(ids, list(range(5)), tokens=tokens) == ids[:1]
    assert [await client.result(job_id) for job_id in ids[1:]] == [1, 2, 3, 4]
    assert (await client.stats())["stats"]["totalCompleted"] == 4
    await client.ping()


async def test_delays_are_seconds(bunqueue: Bunqueue):
    await bunqueue.client.push("q", 1, delay=5.0)
    assert await bunqueue.client.pull("q", timeout=4.9) is None
    assert await bunqueue.client.pull("q", timeout=1) is not None
    assert bunqueue.elapsed == pytest.approx(5.0, abs=0.01)


async def test_refusals_are_the_callers(bunqueue: Bunqueue):
    with pytest.raises(Refused, match="invalid characters"):
        await bunqueue.client.push("no such name!")
    with pytest.raises(Refused, match="Job not found") as caught:
        await bunqueue.client.get("nobody")
    assert caught.value.status == 404
    with pytest.raises(Refused, match="not active"):
        await bunqueue.client.ack("nobody", token="x")
    with pytest.raises(Refused, match="longer"):
        await bunqueue.client.push("q", "x" * 11_000_000)


async def test_server_that_is_away_is_waited_for(bunqueue: Bunqueue, nursery: trio.Nursery):
    await bunqueue.crash()
    ids = []

    async def push():
        ids.append(await bunqueue.client.push("q"))

    nursery.start_soon(push)
    await trio.sleep(20)
    assert ids == []
    await bunqueue.recover()
    await trio.sleep(6)
    assert await bunqueue.client.state(ids[0]) == "waiting"


async def test_lost_connection_is_logged_once(bunqueue: Bunqueue, logs: list[MutableMapping[str, Any]]):
    """A worker waits for its server for ever, and somebody may look into its log to see why nothing happens."""
    await bunqueue.client.ping()
    await bunqueue.crash()
    await trio.sleep(100)
    await bunqueue.recover()
    await bunqueue.client.ping()
    said = [(entry["event"], entry.get("reason")) for entry in logs if "connect" in entry["event"]]
    lost, down, again = said
    assert "was lost" in str(lost[1])
    assert down == ("no connection to the server", "the server is down")
    assert again[0] == "connected again"


async def test_patience_ends(bunqueue: Bunqueue):
    await bunqueue.crash()
    with pytest.raises(ServerUnavailable, match="server is down"):
        await bunqueue.client.push("q")
    assert bunqueue.elapsed == pytest.approx(30)


async def test_cancelled_pull_gives_back(bunqueue: Bunqueue, nursery: trio.Nursery):
    with trio.move_on_after(1):
        await bunqueue.client.pull("q", timeout=60)
    job_id = await bunqueue.client.push("q")
    await trio.sleep(1)
    assert await bunqueue.client.state(job_id) == "waiting"


async def test_wait_sees_every_end(bunqueue: Bunqueue, nursery: trio.Nursery):
    worker = bunqueue.worker("q")

    @worker.handler
    async def handle(job: Job):
        await trio.sleep(10)
        if job.data == "bad":
            raise ValueError("bad data")
        return job.data

    bunqueue.start(worker)
    client = bunqueue.client
    good, bad, gone, late = await client.push_many(
        "q",
        [{"data": "good"}, {"data": "bad", "max_attempts": 1}, {"data": "gone", "delay": 60}, {"data": 1, "delay": 99}],
    )
    brief = await client.push("q", "brief", remove_on_complete=True)
    nursery.start_soon(_later, 20, client.cancel, gone)
    got: list[object] = []
    nursery.start_soon(_collect, got, client, brief)
    assert await client.wait(good, 60) == "good"
    with pytest.raises(JobFailed, match="ValueError: bad data"):
        await client.wait(bad, 60)
    with pytest.raises(JobFailed, match="cancelled"):
        await client.wait(gone, 60)
    with pytest.raises(trio.TooSlowError):
        await client.wait(late, 5)
    with pytest.raises(Refused):
        await client.wait("nobody", 5)
    assert got == [None]


async def _later(seconds, call, *args):
    await trio.sleep(seconds)
    await call(*args)


async def _collect(got, client, job_id):
    got.append(await client.wait(job_id))


async def test_wait_survives_cuts_and_crashes(bunqueue: Bunqueue):
    worker = bunqueue.worker("q")

    @worker.handler
    async def handle(job: Job):
        await trio.sleep(100)
        return "done"

    bunqueue.start(worker)
    job_id = await bunqueue.client.push("q")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_later, 30, bunqueue.crash)
        nursery.start_soon(_later, 35, bunqueue.recover)
        assert await bunqueue.client.wait(job_id) == "done"
    assert bunqueue.elapsed < 110  # the handler went on through the restart


async def test_events(bunqueue: Bunqueue):
    async with bunqueue.client.events("pushed", "removed") as events:
        job_id = await bunqueue.client.push("q")
        await bunqueue.client.cancel(job_id)
        kinds = []
        async for event in events:
            kinds.append((event.event_type, event.job_id))
            if len(kinds) == 2:
                break
        bunqueue.cut()
        other = await bunqueue.client.push("q")
        assert (await anext(events)).job_id == other
        assert events.missed == 1
    assert kinds == [("pushed", job_id), ("removed", job_id)]
    with pytest.raises(ValueError, match="no event type"):
        async with bunqueue.client.events("pusht"):
            pass


@pytest.mark.slow
async def test_a_week_of_retries(bunqueue: Bunqueue):
    """A handler that fails for a week, until what it needs is back."""
    worker = bunqueue.worker("q")
    tries = 0

    @worker.handler
    def handle(job: Job):
        nonlocal tries
        tries += 1
        if bunqueue.elapsed < 7 * DAY_S:
            raise ConnectionError("the mail server is down")
        return "sent"

    bunqueue.start(worker)
    job_id = await bunqueue.client.push("q", max_attempts=1000, backoff=60)
    assert await bunqueue.client.wait(job_id) == "sent"
    assert bunqueue.elapsed > 7 * DAY_S
    assert 165 < tries < 180
