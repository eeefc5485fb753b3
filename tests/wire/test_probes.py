"""What the server says about itself: exactly the documented fields, and true numbers."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.wire.client import Body, Client, done, eventually, ok
from tests.wire.server import Server, StartServer

HEALTH = {
    "ok": {},
    "status": {},
    "uptime": {},
    "version": {},
    "queues": {"waiting", "active", "delayed", "completed", "dlq"},
    "connections": {"tcp", "ws", "sse"},
    "memory": {"heapUsed", "heapTotal", "rss"},
}
STATS = {
    "ok": {},
    "stats": {"queued", "processing", "delayed", "dlq", "completed", "uptime", "pushPerSec", "pullPerSec"}
    | {"totalPushed", "totalPulled", "totalCompleted", "totalFailed"},
    "memory": {"heapUsed", "heapTotal", "rss", "external", "arrayBuffers"},
    "collections": {"jobIndex", "completedJobs", "processingTotal", "queuedTotal", "temporalIndexTotal"},
}
METRICS = {"ok": {}, "metrics": {"totalPushed", "totalPulled", "totalCompleted", "totalFailed"}}
MEMORY = {"heapUsed", "heapTotal", "rss"}
GC = {"ok": {}, "before": MEMORY, "after": MEMORY}
HEAPSTATS = {
    "ok": {},
    "memory": MEMORY,
    "heap": {"objectCount", "protectedCount", "globalCount"},
    "collections": {"jobIndex", "completedJobs", "processingTotal", "queuedTotal", "temporalIndexTotal"},
    "topObjectTypes": {},
}


@pytest.fixture(scope="module")
def busy(start_server: StartServer) -> Iterator[Client]:
    """A client of a server with 4 waiting, 2 active, 3 delayed, 2 completed and 1 dead job."""
    with Client(start_server({}).url) as client:
        for job_id in client.push_bulk("done", [{"data": n} for n in range(2)]):
            client.complete("done", job_id)
        client.bury("dead", client.push("dead", maxAttempts=1))
        client.push_bulk("active", [{"data": n} for n in range(2)])
        assert len(client.drain("active")) == 2
        client.push_bulk("later", [{"data": n, "delay": 600_000} for n in range(2)])
        retried = client.push("retry", backoff=600_000)
        done(client.fail(client.take("retry").id))
        assert client.state(retried) == "delayed"
        client.push_bulk("ready", [{"data": n, "uniqueKey": str(n % 4)} for n in range(8)])
        yield client


def shape(body: Body) -> dict[str, object]:
    return {key: set(value) if isinstance(value, dict) else {} for key, value in body.items()}


def numbers(body: Body, *sections: str) -> list[Any]:
    return [value for section in sections for value in body[section].values()]


def all_numbers(values: list[Any]) -> bool:
    return all(type(value) in {int, float} and value >= 0 for value in values)


def memory_is_plausible(memory: Body) -> bool:
    return bool(1 < memory["rss"] < 10_000 and memory["heapUsed"] <= memory["heapTotal"])


def test_health_has_the_documented_fields(busy: Client) -> None:
    body = ok(busy.get("/health"))
    assert shape(body) == HEALTH
    assert body["status"] == "healthy"
    assert isinstance(body["version"], str)
    assert body["version"]
    assert all_numbers([body["uptime"], *numbers(body, "queues", "connections", "memory")])
    assert body["uptime"] < 120
    assert memory_is_plausible(body["memory"])


def test_health_counts_jobs_by_state(busy: Client) -> None:
    queues = ok(busy.get("/health"))["queues"]
    assert queues == {"waiting": 4, "active": 2, "delayed": 3, "completed": 2, "dlq": 1}


def test_health_counts_event_streams(busy: Client) -> None:
    def streams() -> int:
        count: int = ok(busy.get("/health"))["connections"]["sse"]
        return count

    before = streams()
    with busy.events("ready"), busy.events("active"):
        eventually(streams, before + 2)
    eventually(streams, before)


def is_plain_ok(response: httpx.Response) -> bool:
    kind = response.headers["content-type"].split(";")[0]
    return (response.status_code, kind, response.text) == (200, "text/plain", "OK")


def test_liveness_is_a_plain_ok(busy: Client) -> None:
    assert is_plain_ok(busy.get("/healthz"))
    assert is_plain_ok(busy.get("/live"))


def test_readiness_is_exactly_this(busy: Client) -> None:
    assert ok(busy.get("/ready")) == {"ok": True, "ready": True}


def test_stats_has_the_documented_fields(busy: Client) -> None:
    body = ok(busy.get("/stats"))
    assert shape(body) == STATS
    assert all_numbers(numbers(body, "stats", "memory", "collections"))
    assert memory_is_plausible(body["memory"])


def test_stats_counts_jobs_and_what_was_done(busy: Client) -> None:
    stats = ok(busy.get("/stats"))["stats"]
    del stats["uptime"], stats["pushPerSec"], stats["pullPerSec"]
    assert stats == {
        "queued": 4,
        "processing": 2,
        "delayed": 3,
        "dlq": 1,
        "completed": 2,
        "totalPushed": 12,
        "totalPulled": 6,
        "totalCompleted": 2,
        "totalFailed": 1,
    }


def test_stats_counts_what_is_being_processed(busy: Client) -> None:
    assert ok(busy.get("/stats"))["collections"]["processingTotal"] == 2


def test_metrics_are_the_four_totals(busy: Client) -> None:
    body = ok(busy.get("/metrics"))
    assert shape(body) == METRICS
    assert body["metrics"] == {"totalPushed": 12, "totalPulled": 6, "totalCompleted": 2, "totalFailed": 1}


def test_gc_tells_the_memory_before_and_after(busy: Client) -> None:
    body = ok(busy.post_empty("/gc"))
    assert shape(body) == GC
    assert all_numbers(numbers(body, "before", "after"))
    assert memory_is_plausible(body["before"])
    assert memory_is_plausible(body["after"])


def test_heapstats_has_the_documented_fields(busy: Client) -> None:
    body = ok(busy.get("/heapstats"))
    top = body["topObjectTypes"]
    assert shape(body) == HEAPSTATS
    assert all_numbers(numbers(body, "memory", "heap", "collections"))
    assert body["heap"]["objectCount"] > 1000
    assert 1 <= len(top) <= 20
    assert all(set(entry) == {"type", "count"} for entry in top)
    assert all(isinstance(entry["type"], str) for entry in top)
    counts = [entry["count"] for entry in top]
    assert counts == sorted(counts, reverse=True)
    assert sum(counts) <= body["heap"]["objectCount"]


def test_a_count_follows_a_job_through_its_life(fresh: Server) -> None:
    with Client(fresh.url) as client:

        def counts() -> tuple[int, ...]:
            queues = ok(client.get("/health"))["queues"]
            return tuple(queues[name] for name in ("waiting", "active", "delayed", "completed", "dlq"))

        assert counts() == (0, 0, 0, 0, 0)
        job_id = client.push("q", backoff=300, maxAttempts=2)
        assert counts() == (1, 0, 0, 0, 0)
        client.take("q")
        assert counts() == (0, 1, 0, 0, 0)
        done(client.fail(job_id))
        assert counts() == (0, 0, 1, 0, 0)
        client.complete("q", job_id)
        assert counts() == (0, 0, 0, 1, 0)
        cancelled = client.push("q")
        done(client.cancel(cancelled))
        assert counts() == (0, 0, 0, 1, 0)
        client.bury("q", client.push("q", maxAttempts=1))
        assert counts() == (0, 0, 0, 1, 1)


def test_pushes_per_second_see_the_last_seconds(fresh_client: Client) -> None:
    assert ok(fresh_client.get("/stats"))["stats"]["pushPerSec"] == 0
    for _ in range(3):
        fresh_client.push_bulk("q", [{"data": n} for n in range(500)])
    eventually(lambda: ok(fresh_client.get("/stats"))["stats"]["pushPerSec"] > 0, wanted=True)


def test_prometheus_has_the_documented_metrics(busy: Client) -> None:
    response = busy.get("/prometheus")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = response.text.splitlines()
    samples = dict(line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
    assert "# TYPE bunqueue_jobs_pushed_total counter" in lines
    assert "# TYPE bunqueue_push_duration_ms histogram" in lines
    assert float(samples["bunqueue_jobs_pushed_total"]) == 12
    assert float(samples["bunqueue_jobs_completed_total"]) == 2
    assert float(samples['bunqueue_queue_jobs_waiting{queue="ready"}']) == 4
    assert float(samples['bunqueue_queue_jobs_active{queue="active"}']) == 2
    assert float(samples['bunqueue_queue_jobs_delayed{queue="later"}']) == 2
    assert float(samples['bunqueue_queue_jobs_dlq{queue="dead"}']) == 1
    assert float(samples['bunqueue_connections{kind="http"}']) >= 1
    buckets = [name for name in samples if name.startswith("bunqueue_push_duration_ms_bucket")]
    assert any('le="0.1"' in name for name in buckets)
    assert any('le="+Inf"' in name for name in buckets)
    assert float(samples["bunqueue_push_duration_ms_count"]) >= 1
