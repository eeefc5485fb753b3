"""Schedules of a server that is killed: each slot makes at most one job, and every job that it made is there."""

import time

import pytest

from tests.wire.client import Client, ok
from tests.wire.server import Server


@pytest.mark.slow
def test_no_slot_makes_a_second_job_over_kills(fresh: Server):
    done: list[str] = []
    with Client(fresh.url) as client:
        ok(client.post("/schedules", {"name": "s", "queue": "q", "every": 20, "overlap": "allow", "misfire": "all"}))
    for _ in range(5):
        with Client(fresh.url) as client:
            until = time.monotonic() + 0.5
            while time.monotonic() < until:
                for delivery in client.pull_batch("q", count=5, timeout=20):
                    ok(client.ack(delivery.id, token=delivery.token))
                    done.append(delivery.id)
        fresh.kill()
        fresh.start()
    with Client(fresh.url) as client:
        ok(client.post("/schedules/s/pause", {}))
        runs = ok(client.get("/schedules/s"))["schedule"]["runs"]
        while (delivery := client.pull("q")) is not None:
            done.append(delivery.id)
        known = ok(client.get("/schedules/s/runs?limit=100"))["past"]
    assert len(done) == len(set(done)), "a slot made a job twice, or one that had ended came back"
    assert len(done) == runs, "a job that a slot made is lost"
    slots = [int(job_id.removeprefix("s@")) for job_id in done]
    assert all(slot % 20 == 0 for slot in slots)
    told = [each["job"] for each in known if each["job"] is not None]
    assert set(told) <= set(done)
    assert len(told) >= 10
