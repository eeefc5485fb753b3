"""What the longest steps of the event loop are while work of every kind is done at its documented limits; see ``held.py``.

Bulk commands of as many jobs as they may have, acts, pages and searches over many, and large payloads in every way that they leave by.
"""

import http.client
import json
import re
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from websockets.sync.client import ClientConnection, connect

from trials.bench.held_edges import dependencies, errors, faults, heads, pasts, payloads, tags

MANY = 10_000
LARGE = 9 * 1024 * 1024
QUEUES = 3_000
SCHEDULES = 2_000
WORKERS = 1_000
_TEXT = "x" * 1000
_POLITE_S = 0.05


class Work:
    """A client that does one thing after the other, each with its name."""

    def __init__(self, address: tuple[str, int], note: Callable[[str], None], only: str) -> None:
        self.address = address
        self.note = note
        self._only = only

    def ask(self, what: str, method: str, path: str, body: Any = None, *, chunked: bool = False) -> Any:
        """Send a request, note its steps under ``what``, and return the answer's JSON, if it is some."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        status, answer = self.send(method, path, data, chunked=chunked)
        for _ in range(40):
            if status not in (429, 503):
                break
            time.sleep(0.1)
            status, answer = self.send(method, path, data, chunked=chunked)
        self.note(f"{what} ({status})" if status >= 400 else what)
        try:
            return json.loads(answer)
        except ValueError:
            return None

    def send(self, method: str, path: str, data: bytes | None, *, chunked: bool) -> tuple[int, bytes]:
        """Send a request, and return what is answered."""
        connection = http.client.HTTPConnection(*self.address, timeout=120)
        try:
            if chunked and data is not None:
                parts = iter([data[i : i + 65536] for i in range(0, len(data), 65536)])
                connection.request(method, path, parts, {"Transfer-Encoding": "chunked"}, encode_chunked=True)
            else:
                connection.request(method, path, data)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def does(self, theme: str) -> bool:
        """Return whether a theme is asked for."""
        return re.search(self._only, theme) is not None


def _read_on(socket: ClientConnection) -> None:
    try:
        for _ in socket:
            pass
    except Exception as error:
        _ = error


def _listen(address: tuple[str, int]) -> None:
    """Read all events over a WebSocket and as an event stream, as long as there are some."""
    socket = connect("ws://{}:{}/ws".format(*address), max_size=None, compression=None, proxy=None)
    socket.send(json.dumps({"cmd": "Subscribe", "types": ["pushed", "active", "completed", "failed", "removed"]}))
    threading.Thread(target=_read_on, args=(socket,), daemon=True).start()

    def stream() -> None:
        connection = http.client.HTTPConnection(*address)
        connection.request("GET", "/events")
        answer = connection.getresponse()
        try:
            while answer.read1(65536):
                pass
        except (OSError, http.client.HTTPException, ValueError):
            return

    threading.Thread(target=stream, daemon=True).start()


def at_limits(address: tuple[str, int], note: Callable[[str], None], only: str = "") -> None:
    """Do work of every kind."""
    work = Work(address, note, only)
    for theme, do in THEMES.items():
        if work.does(theme):
            do(work)


def _bulk(work: Work) -> None:
    """Push, pull, ack, fail and renew as many as a command may have."""
    kinds: dict[str, Callable[[int], dict[str, Any]]] = {
        "1 KB": lambda _: {"data": _TEXT},
        "small": lambda _: {"data": 1},
        "own ids": lambda i: {"data": _TEXT, "jobId": f"own-{i}"},
        "options": lambda i: {"data": _TEXT, "maxAttempts": 1 + i % 50, "backoff": i, "timeout": 1000 + i, "priority": i % 9},
        "tags": lambda i: {"data": 1, "tags": [f"tag-{i}-{n}" for n in range(20)]},
        "unique keys": lambda i: {"data": _TEXT, "uniqueKey": f"k{i}", "delay": 3_600_000},
        "dependencies": lambda i: {"data": _TEXT, "dependsOn": [f"own-{i}"]},
        "a chain": lambda i: {"data": 1, "jobId": f"chain-{i}", "dependsOn": [f"chain-{i - 1}"] if i else []},
        "dependencies, 100,000": lambda i: {"data": 1, "dependsOn": [f"own-{(i + n) % MANY}" for n in range(10)]},
        "durable": lambda _: {"data": _TEXT, "durable": True},
        "series": lambda i: {"data": 1, "repeat": {"every": 3_600_000, "limit": 2}},
    }  # fmt: skip
    for name, make in kinds.items():
        jobs = {"jobs": [make(i) for i in range(MANY)]}
        queue = "b" + re.sub("[^a-z]", "", name)
        work.ask(f"bulk push {name}", "POST", f"/queues/{queue}/jobs/bulk", jobs)
        if name in ("1 KB", "own ids"):
            work.ask(f"bulk push {name}, again, in chunks", "POST", f"/queues/{queue}/jobs/bulk", jobs, chunked=True)
        if name == "small":
            _half_bulk(work, json.dumps({"jobs": [make(i) for i in range(5000)]}).replace(" ", "").encode())
    for name, report in REPORTS.items():
        work.ask("bulk push 1 KB", "POST", "/queues/r/jobs/bulk", {"jobs": [{"data": _TEXT, "maxAttempts": 2}] * MANY})
        ids, tokens = _pull(work, "r", MANY)
        report(work, ids, tokens, name)
    work.ask("ack of what is not there", "POST", "/jobs/ack-batch", {"ids": [f"nothing-{i}" for i in range(MANY)]})
    # What waits for 10,000 ends.
    ids, tokens = _pull(work, "bownids", MANY)
    work.ask("ack with dependents", "POST", "/jobs/ack-batch", {"ids": ids, "tokens": tokens})
    _wait(work, "the dependents, 110,000")


def _half_bulk(work: Work, body: bytes) -> None:
    """Send some bulk pushes at once."""
    threads = [
        threading.Thread(target=work.send, args=("POST", f"/queues/at{n}/jobs/bulk", body), kwargs={"chunked": False})
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    _wait(work, "four bulk pushes of 5,000 at once")


def _pull(work: Work, queue: str, count: int) -> tuple[list[str], list[str]]:
    ids: list[str] = []
    tokens: list[str] = []
    while len(ids) < count:
        found = work.ask(
            "pull of 1,000", "POST", f"/queues/{queue}/jobs/pull-batch", {"count": 1000, "lockTtl": 600_000}
        )
        if not found or not found.get("jobs"):
            break
        ids += [job["id"] for job in found["jobs"]]
        tokens += found["tokens"]
    return ids, tokens


def _ack(work: Work, ids: list[str], tokens: list[str], name: str) -> None:
    body: dict[str, Any] = {"ids": ids, "tokens": tokens}
    if name == "results of 900 B":
        body["results"] = ["y" * 900] * len(ids)
    work.ask(f"bulk ack, {name}", "POST", "/jobs/ack-batch", body)


def _fail(work: Work, ids: list[str], tokens: list[str], name: str) -> None:
    for begin in range(0, len(ids), 500):
        some = zip(ids[begin : begin + 500], tokens[begin : begin + 500], strict=True)
        failures: list[dict[str, Any]] = [
            {"id": i, "token": t, "error": f"E {i}: " + "no route " * 50, "unrecoverable": name == "dead"} for i, t in some
        ]  # fmt: skip
        if name == "with logs":
            for each in failures:
                each["logs"] = [{"message": "a line"}] * 100
        work.ask(f"bulk failure, {name}", "POST", "/jobs/fail-batch", {"failures": failures})


def _renew(work: Work, ids: list[str], tokens: list[str], name: str) -> None:
    work.ask(f"bulk {name}", "POST", "/jobs/heartbeat-batch", {"ids": ids, "tokens": tokens, "duration": 60_000})


REPORTS: dict[str, Callable[[Work, list[str], list[str], str], None]] = {
    "ids only": _ack, "results of 900 B": _ack, "again": _fail, "dead": _fail, "with logs": _fail, "heartbeat": _renew,
}  # fmt: skip


def _acts(work: Work) -> None:
    """Act on as many as an act may, look at them, and search through them."""
    for n in range(3):
        work.ask(
            "bulk push 1 KB", "POST", f"/queues/act{n}/jobs/bulk", {"jobs": [{"data": _TEXT, "tags": ["t"]}] * MANY}
        )
    later = [{"data": _TEXT, "delay": 3_600_000}] * MANY
    work.ask("bulk push", "POST", "/queues/later/jobs/bulk", {"jobs": later})
    work.ask("bulk push", "POST", "/queues/later2/jobs/bulk", {"jobs": later})
    _seen(work, "act0", "waiting")
    acts: list[tuple[str, str, dict[str, Any]]] = [
        ("act0", "priority", {"priority": 7}), ("act0", "discard", {}), ("act0", "retry", {}), ("act0", "discard", {}),
        ("act0", "purge", {}), ("act1", "cancel", {"reason": "r" * 500}), ("later", "promote", {}), ("later2", "cancel", {}),
    ]  # fmt: skip
    for queue, action, more in acts:
        for _ in range(3):
            body = {"filter": {"queue": queue}, "action": action, "limit": MANY, **more}
            found = work.ask(f"acts: {action}", "POST", "/jobs/act", body)
            if not found or found.get("next") is None:
                break
        if action == "discard":
            _seen(work, queue, "failed")
    work.ask(
        "acts: dry run",
        "POST",
        "/jobs/act",
        {"filter": {"queue": "act2"}, "action": "cancel", "dryRun": True, "limit": MANY},
    )
    names = [f"act{n}" for n in range(3)] + [f"no-{n}" for n in range(97)]
    work.ask("acts: 100 queues", "POST", "/jobs/act", {"filter": {"queue": names}, "action": "discard", "limit": MANY})
    for path in ("/queues/act2/dlq/retry", "/queues/act2/dlq/purge"):
        work.ask(f"POST {path}", "POST", path, {})
        _wait(work, f"POST {path}")
    # What is done to all of a queue at once.
    for queue, path, body in (
        ("d0", "drain", {}), ("d1", "clean", {"grace": 0, "state": "waiting", "limit": MANY}), ("d2", "promote-jobs", {}),
        ("d3", "obliterate", {"force": True}), ("d4", "pause", {}), ("d4", "resume", {}), ("d4", "drain", {"delayed": True}),
    ):  # fmt: skip
        delay = 3_600_000 if queue == "d2" else 0
        for _ in range(1 if path == "resume" else 3):
            work.ask(
                "bulk push", "POST", f"/queues/{queue}/jobs/bulk", {"jobs": [{"data": _TEXT, "delay": delay}] * MANY}
            )
        work.ask(f"all of a queue: {path}", "POST", f"/queues/{queue}/{path}", body)
        _wait(work, f"all of a queue: {path}")


def _seen(work: Work, queue: str, state: str) -> None:
    for path in (
        f"/queues/{queue}/jobs/list?state={state}&limit=1000", f"/jobs?queue={queue}&limit=1000", f"/jobs?queue={queue}&search=zz",
        f"/jobs?queue={queue}&text=zz&limit=1000", "/jobs?tag=none&limit=1000", "/jobs?error=zz&limit=1000", f"/queues/{queue}/dlq",
        f"/queues/{queue}/figures", f"/queues/{queue}/priority-counts", f"/queues/{queue}/dlq/groups", "/dead/groups",
        f"/ui/queues/{queue}", f"/ui/jobs?queue={queue}&state={state}", "/ui/errors", "/ui", "/ui/actions", "/actions?limit=1000",
    ):  # fmt: skip
        work.ask(f"look: {path.replace(queue, 'q')} with {state} ones", "GET", path)


def _large(work: Work) -> None:
    """Send and get payloads, results and errors of many megabytes."""
    value, text = "z" * LARGE, "e" * LARGE
    for lane in ("express", "chunked"):
        chunked = lane == "chunked"
        for n in range(2):
            job = f"{lane}-{n}"
            work.ask(f"{lane}: push of 9 MiB", "POST", "/queues/l/jobs", {"jobId": job, "data": value}, chunked=chunked)
            for path in (
                f"/jobs/{job}",
                "/queues/l/jobs/list",
                "/jobs?queue=l",
                f"/ui/jobs/{job}",
                "/jobs?queue=l&text=q",
            ):
                work.ask(f"{lane}: look at 9 MiB: {path.replace(job, 'j')}", "GET", path)
            if n:
                pulled = work.ask(f"{lane}: pull of 9 MiB", "GET", "/queues/l/jobs")["job"]
                token = pulled.get("token")
            else:
                found = work.ask(
                    f"{lane}: pull-batch of 9 MiB", "POST", "/queues/l/jobs/pull-batch", {"count": 10}, chunked=chunked
                )
                token = found["tokens"][0]
            ack = {"token": token, "result": value} if token else {"result": value}
            if n:
                work.ask(
                    f"{lane}: fail with 9 MiB",
                    "POST",
                    f"/jobs/{job}/fail",
                    {"error": text, "unrecoverable": True},
                    chunked=chunked,
                )
            else:
                work.ask(f"{lane}: ack with 9 MiB", "POST", f"/jobs/{job}/ack", ack, chunked=chunked)
            for path in (
                f"/jobs/{job}",
                f"/jobs/{job}/result",
                "/queues/l/jobs/list?state=completed",
                "/jobs?queue=l",
                f"/ui/jobs/{job}",
                "/queues/l/dlq",
            ):
                work.ask(f"{lane}: look at the end of 9 MiB: {path.replace(job, 'j')}", "GET", path)
            work.ask(f"{lane}: wait for the end of 9 MiB", "POST", f"/jobs/{job}/wait", {"timeout": 100})
            if n:
                work.ask(f"{lane}: retry of 9 MiB", "POST", "/queues/l/dlq/retry", {}, chunked=chunked)
        work.ask(
            f"{lane}: bulk of 9 jobs of 1 MB",
            "POST",
            f"/queues/m{lane}/jobs/bulk",
            {"jobs": [{"data": "m" * 1_000_000}] * 9},
            chunked=chunked,
        )
        work.ask(
            f"{lane}: pull-batch of 9 jobs of 1 MB",
            "POST",
            f"/queues/m{lane}/jobs/pull-batch",
            {"count": 9},
            chunked=chunked,
        )
        results = {"ids": [f"x{i}" for i in range(9)], "results": ["m" * 1_000_000] * 9}
        work.ask(f"{lane}: results of 9 MB", "POST", "/jobs/ack-batch", results, chunked=chunked)
    _socket(work, value)


def _socket(work: Work, value: str) -> None:
    with connect("ws://{}:{}/ws".format(*work.address), max_size=None, compression=None, proxy=None) as peer:

        def ask(what: str, **fields: Any) -> Any:
            peer.send(json.dumps({"reqId": what, **fields}))
            while (found := json.loads(peer.recv())).get("reqId") != what:
                pass
            work.note(f"ws: {what}")
            return found

        ask("push of 9 MiB", cmd="PUSH", queue="w", jobId="ws-1", data=value)
        ask("get of 9 MiB", cmd="GetJob", id="ws-1")
        token = ask("pull of 9 MiB", cmd="PULL", queue="w").get("token")
        ask("ack of 9 MiB", cmd="ACK", id="ws-1", result=value, **({"token": token} if token else {}))
        ask("result of 9 MiB", cmd="GetResult", id="ws-1")
        ask("bulk push 1 KB", cmd="PUSHB", queue="w", jobs=[{"data": _TEXT}] * MANY)
        found = ask("pull of 1,000", cmd="PULLB", queue="w", count=1000)
        ask("ack of 1,000", cmd="ACKB", ids=[job["id"] for job in found["jobs"]], tokens=found["tokens"])


def _crowds(work: Work) -> None:
    """Make many queues, schedules, workers, logs and acts, and look at them."""
    for n in range(QUEUES):
        work.send("POST", f"/queues/crowd-{n}/jobs", b'{"data":1}', chunked=False)
    work.note("pushes to many queues")
    for n in range(SCHEDULES):
        body = json.dumps({"name": f"s-{n}", "queue": f"crowd-{n}", "cron": "0 0 1 1 *", "data": {"n": n}}).encode()
        work.send("POST", "/schedules", body, chunked=False)
    work.note("many schedules")
    for n in range(WORKERS):
        body = json.dumps({"name": f"w-{n}", "queues": [f"crowd-{n + i}" for i in range(100)]}).encode()
        work.send("POST", "/workers", body, chunked=False)
    work.note("many workers")
    for n in range(100):
        body = json.dumps({"message": f"{n} " + "l" * 2000}).encode()
        work.send("POST", "/jobs/express-0/logs", body, chunked=False)
    work.note("many log lines")
    for path in (
        "/queues", "/queues?limit=1000", "/schedules", "/schedules?limit=1000", "/crons", "/workers", "/workers?limit=1000", "/prometheus", "/metrics",
        "/stats", "/storage", "/health", "/ready", "/findings", "/audit", "/tasks", "/heapstats", "/openapi.json", "/docs", "/jobs?limit=1000",
        "/jobs/express-0/logs", "/jobs/express-0/logs?limit=1000", "/jobs/express-0/attempts", "/jobs?text=nowhere", "/dead/groups", "/dead/reruns",
        "/ui", "/ui/queues", "/ui/schedules", "/ui/workers", "/ui/errors", "/ui/actions", "/ui/findings", "/ui/server", "/ui/storage", "/ui/jobs",
        "/ui/jobs/express-0", "/ui/cluster", "/ui/schedules/s-1", "/ui/queues/crowd-1",
        "/events?types=" + ",".join(["nope"] * 2000), "/jobs?" + "&".join(f"state={i}" for i in range(3000)),
        "/schedules/preview?cron=" + quote("0 0 29 2 *") + "&count=100",
        "/schedules/preview?cron=" + quote("0 0 30 2 *") + "&count=100",
        "/schedules/preview?cron=" + quote("* * * * * *") + "&count=100&timezone=Europe/Berlin",
    ):  # fmt: skip
        if path.startswith("/events"):
            continue
        work.ask(f"crowds: {path[:50]}", "GET", path)
    work.ask("crowds: POST /gc", "POST", "/gc", {})
    work.ask("crowds: POST /ticket", "POST", "/ticket", {})
    work.ask("crowds: POST /dead/rerun", "POST", "/dead/rerun", {"queue": "l"})


def _wait(work: Work, what: str) -> None:
    """Note what goes on by itself."""
    for _ in range(12):
        time.sleep(_POLITE_S)
        work.note(what)


def _events(work: Work) -> None:
    """Do the same work while somebody listens."""
    _listen(work.address)
    time.sleep(0.3)
    jobs = {"jobs": [{"data": _TEXT}] * MANY}
    for _ in range(2):
        work.ask("heard: bulk push 1 KB", "POST", "/queues/heard/jobs/bulk", jobs)
    _wait(work, "heard: bulk push 1 KB")
    ids, tokens = _pull(work, "heard", MANY)
    _wait(work, "heard: pull of 1,000")
    work.ask("heard: bulk ack", "POST", "/jobs/ack-batch", {"ids": ids, "tokens": tokens})
    _wait(work, "heard: bulk ack")
    for _ in range(2):
        work.ask("heard: push of 9 MiB", "POST", "/queues/heard/jobs", {"data": "z" * LARGE})
    _wait(work, "heard: push of 9 MiB")
    work.ask(
        "heard: acts: cancel", "POST", "/jobs/act", {"filter": {"queue": "heard"}, "action": "cancel", "limit": MANY}
    )
    _wait(work, "heard: acts: cancel")


THEMES: dict[str, Callable[[Work], None]] = {
    "bulk": _bulk, "acts": _acts, "large": _large, "crowds": _crowds, "events": _events, "dependencies": dependencies,
    "errors": errors, "faults": faults, "tags": tags, "payloads": payloads,
    "heads": heads, "pasts": pasts,
}  # fmt: skip
"""In this order: later ones look at what earlier ones have left."""
