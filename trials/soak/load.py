"""The load of the soak: everything that clients do, at a steady rate, with connections that come and go."""

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import trio

from bunqueue_trio.protocol.events import ALL_TYPES
from bunqueue_trio.testing.client import Body, Peer, event_stream, http_peer, ws_peer

PUSHERS = 4  # over HTTP, and as many over WebSocket
WORKERS = 4
LEASE_MS = 2000
PAYLOAD_BYTES = 200
QUEUE_LIFE_S = 20  # after this long a queue is given up for one of another name
QUEUES = 3  # at a time
KEYS = 50  # unique keys that are asked for again and again
SERIES_EVERY_MS = 200
VISIT_S = 2  # how often somebody connects, does something and leaves without a word
ACT_S = 0.25  # how often an operator does something
QUIET = "soak-worker"  # of nobody: what is said of it stays
SCHEDULES = 10  # names of schedules that are put and deleted again and again
ERRORS = ("ConnectionError: {} refused", "TimeoutError: no answer within {} s", "no such address {}")
LOGGED = 0.1  # of the jobs


@dataclass
class Tally:
    """What the clients have seen since the last look."""

    latencies_ms: list[float] = field(default_factory=list)
    """Of pushes, with the commit."""
    pushed: int = 0
    completed: int = 0
    refused: int = 0
    event_id: int = 0
    """Of the last event that was heard; never less than before."""
    missed: int = 0
    """Events that nobody told the watcher, who comes back where it was."""
    acts: dict[str, list[int]] = field(default_factory=dict)
    """What an operator has done: how often it was sent, and how often it was not refused."""


def queue(rng: random.Random, age: int = 0) -> str:
    """Return the name of a queue of now, or of one that was given up before."""
    return f"soak-{int(time.monotonic() / QUEUE_LIFE_S) - age}-{rng.randrange(QUEUES)}"


def kept(rng: random.Random) -> str:
    """Return the name of a queue that stays, of which something is said and that schedules fill."""
    return f"soak-kept-{rng.randrange(QUEUES)}"


async def run(url: str, rate: float, tally: Tally, rng: random.Random) -> None:
    """Load the server with `rate` jobs a second, until cancelled."""
    each = 2 * PUSHERS / rate
    async with trio.open_nursery() as nursery:
        for connect in (http_peer, ws_peer):
            nursery.start_soon(_crowd, connect, url, tally, rng, each)
        nursery.start_soon(_operate, url, tally, rng)
        for visit in (_push_and_leave, _pull_and_leave, _listen_and_leave, _work_for_a_while):
            nursery.start_soon(_visits, visit, url, tally, rng)


async def _crowd(connect: Any, url: str, tally: Tally, rng: random.Random, each_s: float) -> None:
    async with connect(url) as peer, trio.open_nursery() as nursery:
        await peer.call("PUSH", queue="soak-series", data=0, repeat={"every": SERIES_EVERY_MS})
        for _ in range(PUSHERS):
            nursery.start_soon(_push, peer, tally, rng, each_s)
        for _ in range(WORKERS):
            nursery.start_soon(_work, peer, tally, rng)


async def _push(peer: Peer, tally: Tally, rng: random.Random, each_s: float) -> None:
    """Push at a rate of its own, whatever the server takes for it; after a pause there is no burst."""
    due = trio.current_time() + rng.random() * each_s
    last = ""
    while True:
        await trio.sleep_until(due)
        begun = trio.current_time()
        answer = await peer.call("PUSH", queue=queue(rng), **_spec(rng, last))
        tally.latencies_ms.append((trio.current_time() - begun) * 1000)
        tally.pushed += answer["ok"]
        tally.refused += not answer["ok"]
        last = answer.get("id", "")
        if last and rng.random() < 0.01:
            await peer.call("Cancel", id=last)
            last = ""
        due = max(due + each_s, trio.current_time())


def _spec(rng: random.Random, last: str) -> Body:
    spec: Body = {"data": "x" * rng.randrange(2 * PAYLOAD_BYTES), "maxAttempts": rng.choice((1, 2)), "backoff": 500}
    spec["priority"] = rng.randrange(3)
    if rng.random() < 0.2:
        spec |= {"groupId": f"group-{rng.randrange(1000)}", "tags": [f"tag-{rng.randrange(1000)}"], "name": "job"}
    chance = rng.random()
    if chance < 0.05:
        spec["delay"] = rng.randrange(5000)
    elif chance < 0.10:
        spec["uniqueKey"] = f"key-{rng.randrange(KEYS)}"
    elif chance < 0.12 and last:
        spec["dependsOn"] = [last]
    elif chance < 0.14:
        spec["removeOnComplete"] = True
    elif chance < 0.16:
        spec["durable"] = True
    elif chance < 0.17:
        spec["ttl"] = 1000
    elif chance < 0.18:
        spec["data"] = "x" * 100_000
    return spec


async def _work(peer: Peer, tally: Tally, rng: random.Random) -> None:
    while True:
        age = rng.choices((0, 1, 2), (75, 15, 10))[0]  # what comes late, comes to a queue that gets no new jobs
        chance = rng.random()
        name = "soak-series" if chance < 0.1 else kept(rng) if chance < 0.3 else queue(rng, age)
        answer = await peer.call("PULLB", queue=name, count=10, timeout=300, lockTtl=LEASE_MS)
        for job, token in zip(answer["jobs"], answer["tokens"], strict=True):
            lease = {"id": job["id"], "token": token}
            chance = rng.random()
            if chance < 0.02:
                continue  # forgotten
            if chance < 0.07:
                said = rng.choice(ERRORS).format(rng.randrange(10**6))
                await peer.call("FAIL", error=said, stack=f"Traceback: {said}", unrecoverable=chance < 0.03, **lease)
                continue
            if rng.random() < LOGGED:
                for n in range(rng.randrange(1, 5)):
                    await peer.call("AddLog", id=job["id"], message=f"step {n}")
            if chance < 0.12:
                await peer.call("Progress", progress=50, message="half", **lease)
            done = await peer.call("ACK", result=job["data"], **lease)
            tally.completed += done["ok"]


Visit = Callable[[str, Tally, random.Random], Awaitable[None]]


async def _visits(visit: Visit, url: str, tally: Tally, rng: random.Random) -> None:
    while True:
        await trio.sleep(rng.uniform(0, 2 * VISIT_S))
        await visit(url, tally, rng)


async def _push_and_leave(url: str, tally: Tally, rng: random.Random) -> None:
    async with http_peer(url) as peer:
        tally.pushed += (await peer.call("PUSH", queue=queue(rng), data=None))["ok"]


async def _pull_and_leave(url: str, tally: Tally, rng: random.Random) -> None:
    """Hang up with a job in hand."""
    async with ws_peer(url) as peer:
        await peer.call("PULL", queue=queue(rng), timeout=200)


async def _work_for_a_while(url: str, tally: Tally, rng: random.Random) -> None:
    """Say who it is, take a few jobs, and go: half of them say so."""
    async with ws_peer(url) as peer:
        known = await peer.call("RegisterWorker", name=f"visitor-{rng.randrange(10**6)}", queues=[queue(rng)])
        answer = await peer.call("PULLB", queue=queue(rng), count=2, timeout=200)
        for job, token in zip(answer["jobs"], answer["tokens"], strict=True):
            tally.completed += (await peer.call("ACK", id=job["id"], token=token))["ok"]
        if rng.random() < 0.5:
            await peer.call("UnregisterWorker", id=known["data"]["workerId"])


async def _operate(url: str, tally: Tally, rng: random.Random) -> None:
    """Do what operators do, again and again; what is put is taken back sooner or later."""
    async with http_peer(url) as peer:
        while True:
            await trio.sleep(ACT_S)
            # What is said of a queue stays after its jobs: of names that come once it would fill any file.
            command, fields = _act(rng, kept(rng))
            counts = tally.acts.setdefault(f"{command} {fields.get('action', '')}".strip(), [0, 0])
            counts[0] += 1
            counts[1] += (await peer.call(command, **fields))["ok"]


def _act(rng: random.Random, stays: str) -> tuple[str, Body]:
    name = f"schedule-{rng.randrange(SCHEDULES)}"
    dead = {"queue": [queue(rng, 1)]}
    acts: tuple[tuple[str, Body], ...] = (
        ("Pause", {"queue": stays, "reason": "soak"}), ("Resume", {"queue": stays}),
        ("SetConcurrency", {"queue": stays, "concurrency": 5}), ("ClearConcurrency", {"queue": stays}),
        ("RateLimit", {"queue": stays, "limit": 100, "duration": 1000}), ("RateLimitClear", {"queue": stays}),
        ("SetDefaults", {"queue": stays, "maxAttempts": rng.randrange(1, 9)}), ("ClearDefaults", {"queue": stays}),
        ("PutSchedule", {"name": name, "queue": stays, "every": rng.randrange(1000, 5000), "data": {"of": name}}),
        ("DeleteSchedule", {"name": name}), ("PauseSchedule", {"name": name}), ("RunSchedule", {"name": name}),
        ("MarkGroup", {"fingerprint": f"{rng.randrange(20):012x}", "mark": rng.choice(("fixed", "muted", "none"))}),
        ("RetryDlq", {"queue": queue(rng, 1), "limit": 10}), ("PurgeDlq", {"queue": queue(rng, 2), "limit": 10}),
        ("RerunDlq", {"filter": dead, "count": 5, "rate": 5, "force": True}),
        ("RegisterWorker", {"workerId": QUIET, "queues": ["soak-quiet"]}), ("QuietWorker", {"id": QUIET}), ("UnquietWorker", {"id": QUIET}),
        ("SetStallConfig", {"queue": stays, "maxStalls": rng.randrange(1, 9)}), ("ClearStallConfig", {"queue": stays}),
        ("SetDlqConfig", {"queue": stays, "autoRetry": True, "autoRetryInterval": 500, "maxAutoRetries": 1}), ("ClearDlqConfig", {"queue": stays}),
        ("ActOnJobs", {"filter": {"queue": [queue(rng)], "state": ["delayed"]}, "action": "promote", "limit": 100}),
        # From a queue that is given up soon into one of now, and among these.
        ("ActOnJobs", {"filter": {"queue": [queue(rng, rng.randrange(2))]}, "action": "move", "to": queue(rng), "limit": 100}),
        ("ActOnJobs", {"filter": {"queue": [queue(rng)]}, "action": "cancel", "limit": 3, "reason": "soak"}),
        ("ActOnJobs", {"filter": {"queue": [queue(rng)]}, "action": "discard", "limit": 3}),
        ("Drain", {"queue": queue(rng, 2), "delayed": True, "limit": 100}),
        ("Clean", {"queue": queue(rng, 2), "state": "completed", "grace": 1000, "limit": 100}),
        # Nobody asks for these any more: what was retried too late would lie there for ever.
        ("Obliterate", {"queue": queue(rng, rng.randrange(4, 9)), "force": True}),
    )  # fmt: skip
    return rng.choice(acts)


async def _listen_and_leave(url: str, tally: Tally, rng: random.Random) -> None:
    """Go on where the last visit ended; every event has the next number."""
    async with event_stream(url, tally.event_id or None, sorted(ALL_TYPES)) as events:
        first, _ = await events.next()
        tally.event_id = tally.event_id or first
        with trio.move_on_after(VISIT_S):
            while True:
                event_id, _ = await events.next()
                tally.missed += event_id - tally.event_id - 1
                tally.event_id = event_id
