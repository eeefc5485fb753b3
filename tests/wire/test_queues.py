"""What was said of queues outlives the process, however it ends."""

import time
from typing import Any

import pytest

from tests.wire.client import Client, ok
from tests.wire.server import Server


@pytest.mark.slow
def test_a_paused_queue_is_paused_after_a_kill(fresh: Server):
    until = round(time.time() * 1000) + 3_600_000
    with Client(fresh.url) as client:
        ok(client.post("/queues/q/pause", {"reason": "why", "until": until}))
        ok(client.post("/queues/gone/pause", {}))
        ok(client.post("/queues/q/jobs", {"data": 1}))
        ok(client.post("/queues/gone/resume", {}))
        since = paused(client, "q")["since"]
    fresh.kill()
    fresh.start()
    with Client(fresh.url) as client:
        assert paused(client, "q") == {"ok": True, "paused": True, "reason": "why", "since": since, "until": until}
        assert paused(client, "gone")["paused"] is False
        assert ok(client.get("/queues/q/jobs?timeout=200"))["job"] is None
        ok(client.post("/queues/q/resume", {}))
        assert ok(client.get("/queues/q/jobs"))["job"]["data"] == 1


@pytest.mark.slow
def test_a_limit_counts_after_a_kill_what_was_delivered_before_it(fresh: Server):
    with Client(fresh.url) as client:
        ok(client.put("/queues/q/concurrency", {"concurrency": 1}))
        for n in range(2):
            client.push("q", n)
        first = client.take("q")
    fresh.kill()
    fresh.start()
    with Client(fresh.url) as client:
        assert ok(client.get("/queues/q/concurrency")) == {"ok": True, "concurrency": 1, "active": 1}
        assert client.pull("q") is None
        ok(client.ack(first.id, token=first.token))
        assert client.take("q").job["data"] == 1


@pytest.mark.slow
def test_a_window_counts_after_a_kill_what_was_delivered_before_it(fresh: Server):
    with Client(fresh.url) as client:
        ok(client.put("/queues/q/rate-limit", {"limit": 2, "duration": 3_600_000}))
        for n in range(3):
            client.push("q", n)
        client.take("q")
        client.take("q")
    fresh.kill()
    fresh.start()
    with Client(fresh.url) as client:
        said = ok(client.get("/queues/q/rate-limit"))
        assert (said["limit"], said["used"]) == (2, 2)
        assert client.pull("q") is None
        ok(client.put("/queues/q/rate-limit", {"limit": 3, "duration": 3_600_000}))
        assert client.take("q").job["data"] == 2


def paused(client: Client, queue: str) -> dict[str, Any]:
    return ok(client.get(f"/queues/{queue}/paused"))
