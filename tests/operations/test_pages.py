"""The pages for whoever runs the server: who may see them, and what they cost the others."""

import functools
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing
from msgspec import Raw
from prometheus_client.parser import text_string_to_metric_families
from websockets.sync.client import connect

from bunqueue_trio.config import Settings
from bunqueue_trio.pages.table import make_page
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.tree import serve
from bunqueue_trio.storage.memory import MemoryStore
from tests.operations.processes import Running, serving
from tests.patience import PATIENCE_S

TOKEN = {"Authorization": "Bearer secret"}

pytestmark = pytest.mark.slow  # a server process


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("locked"), env={"AUTH_TOKENS": "secret", "METRICS_AUTH": "true"}) as running:
        yield running


def test_tasks_need_a_token_and_name_every_supervised_task(locked: Running):
    with locked.client() as client:
        assert client.get("/tasks").status_code == 401
        tasks = client.get("/tasks", headers=TOKEN).json()["tasks"]
    assert {"persistence flusher", "scheduler", "stall detector", "loop lag"} <= {task["name"] for task in tasks}
    assert all(set(task) == {"name", "state", "restarts", "lastError"} for task in tasks)
    assert {(task["state"], task["restarts"], task["lastError"]) for task in tasks} == {("running", 0, None)}


def test_with_metrics_auth_a_scrape_needs_a_token(locked: Running):
    with locked.client() as client:
        refused = client.get("/prometheus")
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert client.head("/prometheus").status_code == 401
        assert client.get("/prometheus", headers=TOKEN).status_code == 200


def test_the_description_needs_no_token(locked: Running):
    with locked.client() as client:
        for path in ("/openapi.json", "/docs", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css", "/docs/start.js"):
            assert client.get(path).status_code == 200, path
            assert client.head(path).status_code == 200, path


def test_a_scrape_counts_against_the_limit_but_not_against_the_token(tmp_path: Path):
    env = {"AUTH_TOKENS": "secret", "RATE_LIMIT_MAX_REQUESTS": "2"}
    with serving(tmp_path, env=env) as running, running.client() as client:
        assert [client.get("/prometheus").status_code for _ in range(3)] == [200, 200, 429]
        assert client.get("/ready").status_code == 200


def test_the_page_asks_no_other_host(locked: Running):
    with locked.client() as client:
        page = client.get("/docs")
        start = client.get("/docs/start.js")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'self'" in page.text
    assert "://" not in page.text + start.text


def test_every_metric_has_help_and_type_and_the_text_parses(locked: Running):
    with locked.client() as client:
        text = client.get("/prometheus", headers=TOKEN).text
    families = list(text_string_to_metric_families(text))
    assert len(families) > 30
    for family in families:
        assert family.name.startswith("bunqueue_"), family.name
        assert family.documentation, family.name
        assert family.type in {"counter", "gauge", "histogram"}, family.name
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names))


def test_the_documented_buckets_are_written_as_documented(locked: Running):
    with locked.client() as client:
        text = client.get("/prometheus", headers=TOKEN).text
    for kind in ("push", "pull", "ack"):
        for bound in ("0.1", "1", "+Inf"):
            assert f'bunqueue_{kind}_duration_ms_bucket{{le="{bound}"}} ' in text
    assert "\nbunqueue_jobs_pushed_total 0\n" in text


def test_garbage_is_collected_at_most_once_a_second(locked: Running):
    with locked.client() as client:
        client.post("/gc")
        again = client.post("/gc").json()
    assert again["before"] == again["after"]


def test_the_pages_tell_of_100_000_waiting_jobs(tmp_path: Path):
    with serving(tmp_path) as running, running.client() as client:
        before = client.get("/health").json()["memory"]["heapUsed"]
        for n in range(20):
            jobs = [{"data": {"n": i, "text": f"hello {i}"}} for i in range(5000)]
            client.post(f"/queues/q{n}/jobs/bulk", json={"jobs": jobs}).raise_for_status()
        health = client.get("/health").json()
        assert health["queues"]["waiting"] == 100_000
        assert health["memory"]["heapUsed"] > before + 30, "the jobs are in it"
        top = client.get("/heapstats").json()["topObjectTypes"][0]
        assert top == {"type": "Job", "count": 100_000}


class Steps(trio.abc.Instrument):
    """Counts the calls of each step of a task, as the profiler sees them: a step is what the others wait for."""

    def __init__(self) -> None:
        self.longest = 0
        self._calls = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._calls = 0
        sys.setprofile(self._count)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        sys.setprofile(None)
        self.longest = max(self.longest, self._calls)

    def _count(self, *_: object) -> None:
        self._calls += 1


@pytest.mark.parametrize("name", ["health", c.Stats, "prometheus", "heapstats", "tasks", "metrics", "audit"])
async def test_no_page_stops_the_server_for_longer_the_more_jobs_wait(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, name: str | type[c.Command]
):
    server = Server(Settings(), MemoryStore(), Clock(1_000_000))
    await nursery.start(functools.partial(serve, server, ()))
    longest = []
    for jobs in (100, 4000):
        specs = [c.JobSpec(data=Raw(b"1")) for _ in range(jobs // 4)]
        for queue in "abcd":
            await server.core.execute(c.PushBatch(queue=queue, jobs=specs))
        await make_page(name, server)  # what is imported and made once
        await trio.sleep(1.1)  # as long as a look at the memory is good for
        steps = Steps()
        trio.lowlevel.add_instrument(steps)
        await make_page(name, server)
        await trio.lowlevel.checkpoint()
        trio.lowlevel.remove_instrument(steps)
        longest.append(steps.longest)
    few, many = longest
    assert many < few + 1000, "less than a call for each job"
    nursery.cancel_scope.cancel()


def test_commands_over_a_websocket_are_timed_like_any_other(tmp_path: Path):
    with (
        serving(tmp_path) as running,
        running.client() as client,
        connect(f"ws://127.0.0.1:{running.port}/ws", open_timeout=PATIENCE_S) as socket,
    ):
        for message in ('{"cmd":"PUSH","queue":"q","data":1}', '{"cmd":"PULL","queue":"q"}'):
            socket.send(message)
        replies = [json.loads(socket.recv()) for _ in range(5)]
        job = next(reply["job"] for reply in replies if "job" in reply)
        socket.send(json.dumps({"cmd": "ACK", "id": job["id"]}))
        while "ok" not in json.loads(socket.recv()):
            pass  # an event
        text = client.get("/prometheus").text
    for kind in ("push", "pull", "ack"):
        assert f"bunqueue_{kind}_duration_ms_count 1\n" in text, kind
