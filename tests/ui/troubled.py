"""A real server in trouble, and a browser that has signed in to it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.ui.chromium import PATIENCE_S, Browser, Chromium
from tests.ui.night import leave_a_past
from tests.ui.test_hostile import HOSTILE
from tests.wire.server import Server

TOKEN = "secret-token-1"


def ask(server: Server) -> httpx.Client:
    """Who speaks to the server as programs do."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return httpx.Client(base_url=server.url, headers=headers, trust_env=False, timeout=PATIENCE_S)


@contextmanager
def troubled(directory: Path) -> Iterator[Server]:
    """A server that asks for a token, with a queue that has died of one error, and a worker that hangs."""
    leave_a_past(directory / "q.db", "reports", "w-1")
    with Server(directory / "q.db", {"AUTH_TOKENS": TOKEN}) as running:
        with ask(running) as api:
            for n in range(12):
                api.post("/queues/orders/jobs", json={"data": {"tenant": "acme", "order": n}, "maxAttempts": 1})
            work(api, 12, "PaymentError: order {} refused")
            for n in range(3):
                api.post("/queues/invoices/jobs", json={"data": {"invoice": n, "password": "hunter2"}})
            api.post(
                "/queues/later/jobs",
                json={"data": {"report": 1}, "jobId": "later-1", "delay": 3_600_000, "tags": ["x"]},
            )
            api.post(
                "/schedules",
                json={"name": "nightly", "queue": "reports", "cron": "30 2 * * *", "timezone": "Europe/Berlin"},
            )
            api.post("/schedules/nightly/run")
            api.post("/schedules/nightly/pause")
            api.post("/queues/reports/jobs", json={"data": 1, "repeat": {"every": 60_000, "name": "poll"}})
            api.post(
                "/workers",
                json={"workerId": "w-1", "name": "mailer", "queues": ["reports"], "hostname": "web-1.example"},
            )
            for text in HOSTILE[:12]:
                api.post(
                    "/queues/strange/jobs",
                    content=json.dumps({"data": {text: text}, "jobId": text[:250], "tags": [text[:500]]}),
                )
        yield running


def work(api: httpx.Client, count: int, error: str = "") -> None:
    """Take jobs of the queue that has died as they come, and complete them, or fail them with an error."""
    for n in range(count):
        job = api.get("/queues/orders/jobs", params={"timeout": 30_000}).json()
        body = {"error": error.format(n), "token": job["token"]} if error else {"token": job["token"]}
        answer = api.post(f"/jobs/{job['job']['id']}/{'fail' if error else 'ack'}", json=body)
        assert answer.status_code == 200, answer.text


@contextmanager
def signed_in(server: Server, chromium: Chromium) -> Iterator[Browser]:
    with Browser(chromium) as running:
        running.look(1440)
        running.go(f"{server.url}/ui")
        running.run(f"document.getElementById('token').value = {TOKEN!r}; 1")
        running.click("Sign in")
        yield running
