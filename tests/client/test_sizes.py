"""A message that is longer than the server takes is not sent: it would end the connection, and all that is under way over it."""

from collections.abc import MutableMapping
from typing import Any

import pytest
import trio

from bunqueue_trio.client import Client, Job, Refused, connection
from bunqueue_trio.config import Settings
from bunqueue_trio.testing import Bunqueue
from tests.client.loops import on_both
from tests.client.test_real_server import ws
from tests.wire.server import Server

Lines = list[MutableMapping[str, Any]]


@on_both
async def test_a_client_hears_how_long_a_message_may_be(server: Server, queue: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connection, "MESSAGE_MAX", 1000)  # what it would keep to, had it not heard
    async with Client(ws(server)) as client:
        await client.push(queue, "x" * 100_000)
        with pytest.raises(Refused, match="longer than the 10,485,760 that the server takes") as refused:
            await client.push_many(queue, [{"data": "x" * 1_000_000}] * 11)
        assert (refused.value.status, refused.value.code) == (413, "body-too-large")
        await client.ping()
        assert client.connections == 1


def test_a_server_that_does_not_say_it_takes_what_it_does_by_default():
    assert connection.message_max_of(None) == connection.message_max_of("much") == 10 * 1024 * 1024


@pytest.fixture
def bunqueue_settings() -> Settings:
    return Settings(body_max_bytes=8000)


@pytest.mark.thorough
async def test_reports_and_heartbeats_are_cut_into_short_messages(bunqueue: Bunqueue, logs: Lines):
    """Of more jobs than one heartbeat may be for."""
    worker = bunqueue.worker("q", concurrency=1100)
    together = trio.Event()

    @worker.handler
    async def handle(job: Job) -> str:
        await together.wait()
        if job.data % 2:
            raise ValueError("x" * 500)
        return "y" * 500

    ids: list[str] = []
    for first in range(0, 1100, 50):
        jobs = [{"data": n, "max_attempts": 1} for n in range(first, first + 50)]
        ids += await bunqueue.client.push_many("q", jobs)
    bunqueue.start(worker)
    await trio.sleep(100)
    assert worker.running == 1100
    together.set()
    await trio.sleep(10)
    assert [bunqueue.client.connections, len(bunqueue.jobs)] == [1, 0]
    states = [await bunqueue.client.state(job_id) for job_id in ids[:50]]
    assert states == ["completed", "failed"] * 25
    assert [line["event"] for line in logs if line["event"] not in ("job failed", "job completed")] == []


async def test_a_result_that_no_message_holds_is_a_failure(bunqueue: Bunqueue):
    worker = bunqueue.worker("q")
    worker.handler(lambda job: "y" * 9000)
    job_id = await bunqueue.client.push("q", max_attempts=1)
    bunqueue.start(worker)
    await trio.sleep(1)
    error = (await bunqueue.client.look(job_id)).error
    assert error is not None
    assert error.startswith("the result was refused: a message of 9,1")
    assert error.endswith("bytes is longer than the 8,000 that the server takes")
