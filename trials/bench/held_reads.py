"""What the longest steps are while everything that can be read is read, of the largest that the limits allow; see ``held.py``.

Every command of the catalogue that gives something to its client, and every page and download, over the express lane, Hypercorn and a
WebSocket. A command that is new is in it by its fields: each that has a row in ``_VALUES`` goes through all of them.
"""

import http.client
import itertools
import json
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import msgspec
from websockets.sync.client import ClientConnection, connect

from bunqueue_trio.protocol.catalog import CATALOG
from bunqueue_trio.protocol.commands.spec import Does, Spec
from bunqueue_trio.protocol.routes import ROUTES

if TYPE_CHECKING:
    from trials.bench.held_work import Work

_LARGE = 10 * 1024 * 1024 - 4096
_TEXTS = 200
_TEXT_BYTES = 90_000
_ERROR = 65_000
_HOUR_MS = 3_600_000
_QUEUES = ("large", "texts", "errors")
# The last ones wait: whoever takes jobs takes those that have come to wait before.
_STATES = ("delayed", "completed", "failed", "active", "waiting")
_IDS = ("waits", "works", "ended", "dead", "small-dead", "wide", "retried")
_VALUES: dict[str, tuple[Any, ...]] = {
    "id": _IDS,
    "queue": _QUEUES,
    "state": _STATES,
    "limit": (1000,),
    "retrying": (True,),
    "timeout": (1,),
    "text": (None, "nowhere"),
    "name": ("s-0",),
    "cron": ("* * * * * *",),
}
"""Field → what it is given; others stay as they are by default. Where a limit is out of its bounds, the answer is a refusal."""
_PAGES = [
    *(f"/ui/jobs/{job}{below}" for job in _IDS for below in ("", "/data")),
    *(f"/ui/{page}" for page in ("", "queues", "jobs", "errors", "events", "schedules", "workers", "actions", "findings", "storage")),
    *(f"/ui/{page}/{queue}" for page in ("queues", "errors") for queue in _QUEUES),
    *(f"/ui/jobs?queue={queue}&state={state}" for queue in _QUEUES for state in _STATES),
]  # fmt: skip


def reads(work: "Work") -> None:
    """Make what is large, and read it in every way."""
    _make(work)
    for lane in ("express", "hypercorn"):
        for what, path in _paths():
            _get(work, f"{lane}: {what}", path, slow=lane == "hypercorn")
    with connect("ws://{}:{}/ws".format(*work.address), max_size=None, compression=None, proxy=None) as peer:
        for spec in _given():
            for fields in _fields(spec):
                _ask(work, peer, spec.tag, fields)
    _take(work)


def _make(work: "Work") -> None:
    """Make the largest records that there can be, of each state, and lists, logs and pasts of many."""
    text = "z" * _LARGE

    def push(job: str, queue: str, data: Any = text, **more: Any) -> None:
        fields = {"jobId": job, "data": data, **more}
        work.ask(f"push of {job}", "POST", f"/queues/{queue}/jobs", fields)

    def pull(queue: str) -> str:
        found = work.ask("pull", "POST", f"/queues/{queue}/jobs/pull-batch", {"count": 1, "lockTtl": 600_000})
        return str(found["tokens"][0])

    push("ended", "large")
    work.ask("ack of ended", "POST", "/jobs/ended/ack", {"token": pull("large"), "result": text})
    push("dead", "large", maxAttempts=1)
    work.ask("failure of dead", "POST", "/jobs/dead/fail", {"token": pull("large"), "error": "e" * _ERROR})
    push("works", "large")
    pull("large")
    push("waits", "large")
    push("waits-2", "large", delay=_HOUR_MS)
    push("small-dead", "errors", 1, maxAttempts=30, backoff=0)
    push("wide-1", "errors", 1, delay=_HOUR_MS)
    push("wide", "errors", 1, dependsOn=["wide-1"] * 1000, tags=[f"{'t' * 1000}-{n}" for n in range(100)])
    for n in range(30):
        found = work.ask("pull", "GET", "/queues/errors/jobs?timeout=3000")
        body = {"token": found.get("token"), "error": f"{n} " + "e" * _ERROR, "stack": "s" * _ERROR}
        work.ask("failure", "POST", "/jobs/small-dead/fail", body)
    for job in ("small-dead", "ended"):
        for n in range(30):
            work.ask("log", "POST", f"/jobs/{job}/logs", {"message": f"{n} " + "l" * 10_000})
    for state in _STATES:
        for _ in range(_TEXTS // 100):
            _make_texts(work, state)
    for n in range(100):
        body = {"name": f"s-{n}", "queue": "later", "cron": "0 0 1 1 *", "data": "x" * 90_000}
        work.ask("schedule", "POST", "/schedules", body)


def _make_texts(work: "Work", state: str) -> None:
    """Make 100 jobs with long texts that come to a state."""
    delay = {"delay": _HOUR_MS} if state == "delayed" else {}
    jobs = [{"data": "x" * _TEXT_BYTES, "maxAttempts": 1, **delay} for _ in range(100)]
    work.ask("push of texts", "POST", "/queues/texts/jobs/bulk", {"jobs": jobs})
    while state in ("completed", "failed", "active"):
        found = work.ask("pull of texts", "POST", "/queues/texts/jobs/pull-batch", {"count": 100, "lockTtl": 600_000})
        if not found.get("jobs"):
            break
        ids, tokens = [job["id"] for job in found["jobs"]], found["tokens"]
        if state == "completed":
            body = {"ids": ids, "tokens": tokens, "results": ["r" * _TEXT_BYTES] * len(ids)}
            work.ask("ack of texts", "POST", "/jobs/ack-batch", body)
        for i, token in zip(ids, tokens, strict=True) if state == "failed" else ():
            work.ask("failure", "POST", f"/jobs/{i}/fail", {"token": token, "error": "e" * _ERROR})


def _given() -> Iterator[Spec]:
    """Yield the commands that give something and change nothing."""
    yield from (spec for spec in CATALOG if spec.does is Does.READS or spec.tag in ("Ping", "Stats", "StorageStatus"))


def _fields(spec: Spec) -> Iterator[dict[str, Any]]:
    """Yield what a command is given, in all ways."""
    known = [each.encode_name for each in msgspec.structs.fields(spec.command) if each.encode_name in _VALUES]
    for values in itertools.product(*(_VALUES[name] for name in known)):
        yield {name: value for name, value in zip(known, values, strict=True) if value is not None}


def _paths() -> Iterator[tuple[str, str]]:
    """Yield what is read over HTTP: a name, and its path."""
    for spec in _given():
        if spec.http is None or spec.http.method != "GET":
            continue
        for fields in _fields(spec):
            path = re.sub(":([a-zA-Z]+)", lambda name: quote(str(fields.pop(name[1], "x"))), spec.http.path)  # noqa: B023
            query = urlencode({name: json.dumps(value).strip('"') for name, value in fields.items()})
            yield f"{spec.tag} {path}?{query}", f"{path}?{query}"
    for route in ROUTES:
        if isinstance(route.target, str) and route.method == "GET" and route.target not in ("websocket", "events"):
            yield route.path, route.path
    for queue in _QUEUES:
        yield f"export of {queue}", f"/export/jobs?queue={queue}"
        yield f"events of {queue}", f"/events/log?queue={queue}"
    for page in _PAGES:
        yield page, page
    yield "replay", "/events?since=0"


def _get(work: "Work", what: str, path: str, *, slow: bool) -> None:
    """Read an answer, to its end if it has one, as fast as it comes."""
    if not work.does(what):
        return
    connection = http.client.HTTPConnection(*work.address, timeout=5 if path.startswith("/events?") else 120)
    try:
        # With it a request is not for the express lane.
        connection.request("GET", path, headers={"Expect": ""} if slow else {})
        answer = connection.getresponse()
        for _ in range(100_000):
            if not answer.read1(1 << 20):
                break
    except TimeoutError:
        # Events go on.
        pass
    finally:
        connection.close()
    work.note(what)


def _ask(work: "Work", peer: ClientConnection, tag: str, fields: dict[str, Any]) -> None:
    what = f"{tag} {json.dumps(fields)}"
    if not work.does(what):
        return
    peer.send(json.dumps({"cmd": tag, "reqId": what, **fields}))
    end = json.dumps({"reqId": what})[1:]
    while not str(peer.recv()).replace('"reqId":', '"reqId": ').endswith(end):
        pass
    work.note(f"ws: {what}")


def _take(work: "Work") -> None:
    """Take large jobs in each way, over each lane."""
    text = "z" * _LARGE
    takes: dict[str, Callable[[], Any]] = {
        "one": lambda: work.ask("express: pull of a large one", "GET", "/queues/taken/jobs"),
        "some": lambda: work.ask("express: pull-batch of a large one", "POST", "/queues/taken/jobs/pull-batch", {"count": 2}),
        "one, chunked": lambda: work.ask(
            "hypercorn: pull-batch of a large one", "POST", "/queues/taken/jobs/pull-batch", {"count": 2}, chunked=True
        ),
    }  # fmt: skip
    for take in takes.values():
        work.ask("push", "POST", "/queues/taken/jobs", {"data": text})
        take()
    with connect("ws://{}:{}/ws".format(*work.address), max_size=None, compression=None, proxy=None) as peer:
        for tag, more in (("PULL", {}), ("PULLB", {"count": 2})):
            work.ask("push", "POST", "/queues/taken/jobs", {"data": text})
            _ask(work, peer, tag, {"queue": "taken", **more})
