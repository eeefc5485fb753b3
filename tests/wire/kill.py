"""One round of the kill test: load, SIGKILL at a random moment, restart, and the books.

The promise: what was answered is a fact. `kill_round` returns every breach of
it that it finds; a script can run as many rounds as it likes on one data file.
"""

import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import httpx

from tests.wire.client import Body, Client, Delivery, done, ok
from tests.wire.server import Server

Step: TypeAlias = "Callable[[Client, str, Books, random.Random], None]"

PUSHERS = 3
PULLERS = 3
SHORTEST_S, LONGEST_S = 0.15, 0.5  # how long a round lasts before the kill
BULK = 10


@dataclass
class Books:
    """What the clients were told before the kill."""

    pushed: dict[str, str] = field(default_factory=dict)  # id → payload, answered
    acked: set[str] = field(default_factory=set)
    buried: set[str] = field(default_factory=set)
    unsure: set[str] = field(default_factory=set)  # an end was asked for and not answered


@dataclass(frozen=True)
class Report:
    """What came of one round; every list of breaches should be empty."""

    pushed: int
    acked: int
    buried: int
    delivered_after: int
    breaches: list[str]


def kill_round(server: Server, seed: int) -> Report:
    """Load a running server, kill it, start it again, and compare it with the books."""
    rng = random.Random(seed)
    queue = f"round-{seed}-{uuid.uuid4().hex}"
    books = Books()
    workers = [
        *(_Worker(server.url, queue, books, rng.randrange(2**32), _push) for _ in range(PUSHERS)),
        *(_Worker(server.url, queue, books, rng.randrange(2**32), _pull) for _ in range(PULLERS)),
    ]
    for worker in workers:
        worker.start()
    time.sleep(rng.uniform(SHORTEST_S, LONGEST_S))
    server.kill()
    for worker in workers:
        worker.join()
    server.start()
    with Client(server.url) as client:
        delivered, breaches = _audit(client, queue, books)
    breaches += [f"a worker failed: {worker.failure!r}" for worker in workers if worker.failure]
    return Report(len(books.pushed), len(books.acked), len(books.buried), delivered, breaches)


class _Worker(threading.Thread):
    """A client that works until its server is gone."""

    def __init__(self, url: str, queue: str, books: Books, seed: int, step: Step) -> None:
        super().__init__()
        self._client = Client(url)
        self._queue = queue
        self._books = books
        self._rng = random.Random(seed)
        self._step = step
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            with self._client:
                while True:
                    self._step(self._client, self._queue, self._books, self._rng)
        except httpx.TransportError:
            return  # the kill
        except Exception as problem:  # the round reports it as a breach
            self.failure = problem


def _push(client: Client, queue: str, books: Books, rng: random.Random) -> None:
    jobs: list[Body] = [
        {
            "data": uuid.uuid4().hex,
            "maxAttempts": 1,
            "priority": rng.randrange(3),
            "durable": rng.random() < 0.1,
            "jobId": f"named-{uuid.uuid4().hex}" if rng.random() < 0.2 else None,
        }
        for _ in range(BULK if rng.random() < 0.1 else 1)
    ]
    if len(jobs) == 1:
        job_id: str = ok(client.try_push(queue, **jobs[0]))["id"]
        books.pushed[job_id] = jobs[0]["data"]
        return
    ids = client.push_bulk(queue, jobs)
    books.pushed |= {job_id: job["data"] for job_id, job in zip(ids, jobs, strict=True)}


def _pull(client: Client, queue: str, books: Books, rng: random.Random) -> None:
    if rng.random() < 0.2:
        _ack_batch(client, client.pull_batch(queue, count=BULK, timeout=200), books)
        return
    delivery = client.pull(queue, 200)
    if delivery is None:
        return
    books.unsure.add(delivery.id)
    if rng.random() < 0.9:
        done(client.ack(delivery.id, token=delivery.token, result=delivery.job["data"]))
        books.acked.add(delivery.id)
    else:
        done(client.fail(delivery.id, token=delivery.token, error="no"))
        books.buried.add(delivery.id)


def _ack_batch(client: Client, batch: list[Delivery], books: Books) -> None:
    if not batch:
        return
    ids = [delivery.id for delivery in batch]
    books.unsure.update(ids)
    tokens = [delivery.token for delivery in batch]
    results = [delivery.job["data"] for delivery in batch]
    done(client.post("/jobs/ack-batch", {"ids": ids, "tokens": tokens, "results": results}))
    books.acked.update(ids)


def _audit(client: Client, queue: str, books: Books) -> tuple[int, list[str]]:
    """Return how many jobs were still to be delivered, and all breaches of the promise."""
    breaches = []
    states: dict[str, str] = {}
    for job_id in books.pushed:
        if client.is_known(job_id):
            states[job_id] = client.state(job_id)
        else:
            breaches.append(f"lost: {job_id}")
    for job_id, payload in books.pushed.items():
        state = states.get(job_id)
        if job_id in books.acked and state != "completed":
            breaches.append(f"acked and now {state}: {job_id}")
        if job_id in books.buried and state != "failed":
            breaches.append(f"failed for good and now {state}: {job_id}")
        if job_id not in books.unsure and state not in {"waiting", "active", None}:
            breaches.append(f"ended by nobody and now {state}: {job_id}")
        if job_id in books.acked and client.job(job_id)["data"] != payload:
            breaches.append(f"another payload: {job_id}")
    delivered = _drain(client, queue)
    breaches += _check_deliveries(delivered, states, books)
    return len(delivered), breaches


def _drain(client: Client, queue: str) -> list[Delivery]:
    delivered = []
    while batch := client.pull_batch(queue, count=100):
        delivered += batch
    return delivered


def _check_deliveries(delivered: list[Delivery], states: dict[str, str], books: Books) -> list[str]:
    ids = [delivery.id for delivery in delivered]
    ended = books.acked | books.buried
    breaches = [f"delivered after its end: {job_id}" for job_id in ids if job_id in ended]
    seen = Counter(ids)
    breaches += [f"delivered {count} times: {job_id}" for job_id, count in seen.items() if count > 1]
    by_payload: dict[str, set[str]] = {}
    for job_id, payload in [*books.pushed.items(), *((d.id, d.job["data"]) for d in delivered)]:
        by_payload.setdefault(payload, set()).add(job_id)
    breaches += [f"pushed twice: {twins}" for twins in by_payload.values() if len(twins) > 1]
    waiting = {job_id for job_id, state in states.items() if state == "waiting"}
    breaches += [f"waiting and not delivered: {job_id}" for job_id in waiting - set(ids)]
    unanswered = set(ids) - set(books.pushed)
    if len(unanswered) > PUSHERS * BULK:
        breaches.append(f"{len(unanswered)} jobs that nobody pushed")
    active = [job_id for job_id, state in states.items() if state == "active"]
    if len(active) > PULLERS * BULK:
        breaches.append(f"{len(active)} jobs active in nobody's hands")
    return breaches
