"""What the longest steps are where one thing means many others, and beside many queues; see ``held.py``.

The end of a job that 100,000 wait for, 40,000 priorities, batches that are too long, a replay of large events, retention by bytes,
and the pages for probes beside 30,000 queues.
"""

import json
import socket
import time
from typing import TYPE_CHECKING, Any

from trials.lib.raw_http import Connection

if TYPE_CHECKING:
    from trials.bench.held_work import Work

DEPENDENTS = 100_000
PRIORITIES = 40_000
TOO_MANY = 60_000
QUEUES = 30_000
BULK = 10_000
_PIPELINED = 200
_MIB = 1024 * 1024
RETENTION = {"RETENTION_COMPLETED_MAX": "100", "RETENTION_DEAD_MAX": "100", "RETENTION_EVENTS_MAX": "100"}
"""The settings with which ``retention`` has something to delete."""
PAGES = (
    "/stats",
    "/health",
    "/prometheus",
    "/metrics",
    "/queues",
    "/queues?details=true",
    "/queues?limit=1000",
    "/tasks",
    "/findings",
    "/heapstats",
    "/ui",
    "/ui/queues",
)


def limits(work: "Work") -> None:
    """Do all of it but for the retention, which takes settings of its own."""
    for theme in (dependents, priorities, too_many, replay, queues):
        if work.does(theme.__name__):
            theme(work)


def dependents(work: "Work") -> None:
    """End jobs that 100,000 wait for, well and badly."""
    for name in ("good", "bad"):
        delay = 0 if name == "good" else 3_600_000
        _push(work, "first", [{"data": 1, "jobId": name, "delay": delay}])
        for _ in range(DEPENDENTS // BULK):
            _push(work, f"after-{name}", [{"data": 1, "dependsOn": [name]}] * BULK)
    pulled = work.ask("pull of the first", "GET", "/queues/first/jobs")
    work.ask("dependents: ack of the first", "POST", "/jobs/good/ack", {"token": pulled["token"]})
    _until(work, "dependents: 100,000 are released", "/queues/after-good/counts", "waiting", DEPENDENTS)
    work.ask("dependents: cancel of the first", "DELETE", "/jobs/bad")
    _until(work, "dependents: 100,000 fail", "/queues/after-bad/counts", "failed", DEPENDENTS)


def priorities(work: "Work") -> None:
    """Push jobs of 40,000 priorities behind one of the highest, and cancel them one by one."""
    _push(work, "wide", [{"data": 1, "priority": 1_000_000}])
    for begin in range(0, PRIORITIES, BULK):
        _push(work, "wide", [{"data": 1, "jobId": f"p-{n}", "priority": n} for n in range(begin, begin + BULK)])
    for path in (
        "/queues/wide",
        "/queues/wide/priority-counts",
        "/queues/wide/jobs/list?state=waiting&limit=1000",
        "/ui/queues/wide",
    ):
        work.ask(f"priorities: {path}", "GET", path)
    _pipeline(work, "priorities: 40,000 are cancelled", (("DELETE", f"/jobs/p-{n}", b"") for n in range(PRIORITIES)))


def too_many(work: "Work") -> None:
    """Send more in a batch than it may have, and as much as a body may."""
    ids = [f"i-{n}" for n in range(TOO_MANY)]
    for path, body in (
        ("/jobs/ack-batch", {"ids": ids}),
        ("/jobs/ack-batch", {"ids": ids, "tokens": ids, "results": [{"n": 1}] * TOO_MANY}),
        ("/jobs/heartbeat-batch", {"ids": ids}),
        ("/jobs/fail-batch", {"failures": [{"id": each} for each in ids]}),
        ("/queues/q/jobs/bulk", {"jobs": [{"data": 1}] * TOO_MANY}),
        ("/queues/q/jobs/bulk", {"jobs": [{"data": 1, "dependsOn": ids[:1000]}] * (TOO_MANY // 1000)}),
        ("/queues/q/jobs/pull-batch", {"count": TOO_MANY}),
    ):
        for chunked in (False, True):
            work.ask(f"too many: {path}", "POST", path, body, chunked=chunked)


def replay(work: "Work") -> None:
    """Let readers ask for all events again, 300 of them of 1 MiB; some read them, others do not."""
    for _ in range(300):
        work.send("POST", "/queues/large/jobs", b'{"data":"%s"}' % (b"a" * _MIB), chunked=False)
    work.note("replay: push of 1 MiB")
    asked = b"GET /events HTTP/1.1\r\nHost: x\r\nLast-Event-ID: 0\r\n\r\n"
    idle = [socket.create_connection(work.address) for _ in range(20)]
    for each in idle:
        each.sendall(asked)
    with socket.create_connection(work.address, 5) as reader:
        reader.sendall(asked)
        got = 0
        try:
            while got < 300 * _MIB and (data := reader.recv(_MIB)):
                got += len(data)
        except TimeoutError:
            # What is left of the events has been read.
            pass
    for _ in range(5):
        time.sleep(1)
        work.note("replay: 20 readers that read nothing")
    for each in idle:
        each.close()
    work.note("replay")


def queues(work: "Work") -> None:
    """Look at the pages beside 30,000 queues, each with a job that waits and one that has ended."""
    pushes = [("POST", f"/queues/q-{n}/jobs", b'{"data":1}') for n in range(QUEUES)]
    _pipeline(work, "queues: pushes", iter(pushes * 2))
    taken = _pipeline(work, "queues: pulls", (("GET", f"/queues/q-{n}/jobs", b"") for n in range(QUEUES)))
    ids = [found["job"]["id"] for found in taken if found.get("job")]
    _pipeline(work, "queues: acks", (("POST", f"/jobs/{i}/ack", b"{}") for i in ids))
    for path in PAGES:
        # A look at all queues is for all who ask within a second.
        time.sleep(1.1)
        work.ask(f"{QUEUES:,} queues: {path}", "GET", path)
    time.sleep(61)
    work.note(f"{QUEUES:,} queues: the end of a minute")


def retention(work: "Work") -> None:
    """Complete jobs of 1 MB with results as large, and small ones by the thousand, of which 100 are kept."""
    large = "a" * 1_000_000
    for _ in range(150):
        work.ask("retention: push of 1 MB", "POST", "/queues/large/jobs", {"data": large})
        pulled = work.ask("retention: pull of 1 MB", "GET", "/queues/large/jobs")
        work.ask("retention: ack with 1 MB", "POST", f"/jobs/{pulled['job']['id']}/ack", {"result": large})
    for _ in range(3):
        _push(work, "small", [{"data": 1}] * BULK)
        for _ in range(BULK // 1000):
            found = work.ask("retention: pull of 1,000", "POST", "/queues/small/jobs/pull-batch", {"count": 1000})
            work.ask(
                "retention: ack of 1,000", "POST", "/jobs/ack-batch", {"ids": [job["id"] for job in found["jobs"]]}
            )
    for _ in range(30):
        time.sleep(1)
        work.note("retention")


def _push(work: "Work", queue: str, jobs: list[dict[str, Any]]) -> None:
    work.ask(f"bulk push: {queue}", "POST", f"/queues/{queue}/jobs/bulk", {"jobs": jobs})


def _until(work: "Work", what: str, path: str, state: str, wanted: int) -> None:
    """Wait until this number of jobs of a queue are in a state."""
    for _ in range(600):
        found = work.ask(what, "GET", path)
        if found is not None and found["counts"].get(state, 0) == wanted:
            return
        time.sleep(0.1)
    raise RuntimeError(f"{what}: never")


def _pipeline(work: "Work", what: str, asked: Any) -> list[Any]:
    """Send requests some at a time, and return the answers."""
    found: list[Any] = []
    with Connection(*work.address) as client:
        while some := [each for each, _ in zip(asked, range(_PIPELINED), strict=False)]:
            for method, path, body in some:
                client.send(method, path, body)
            found += [json.loads(client.receive().body) for _ in some]
            work.note(what)
    return found
