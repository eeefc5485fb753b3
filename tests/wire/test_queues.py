"""What was said of queues outlives the process, however it ends."""

import time
from typing import Any

from tests.wire.client import Client, ok
from tests.wire.server import Server


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


def paused(client: Client, queue: str) -> dict[str, Any]:
    return ok(client.get(f"/queues/{queue}/paused"))
