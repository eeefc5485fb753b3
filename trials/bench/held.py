"""How long one step of the event loop is at most, whatever a client sends: ``python -m trials.bench.held``.

A server in a process of its own notes each step of a task in which its thread used the processor for long, by the clock of that
thread: a busy machine tells much the same as a quiet one. Requests of 10 MiB, of every shape, go to every command over both lanes, a
WebSocket and a door; then what is large is asked for in every way.
"""

import argparse
import gc
import http.client
import os
import re
import runpy
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import trio
from msgspec import inspect as types
from websockets.sync.client import connect

from bunqueue_trio.protocol.catalog import CATALOG, COMMANDS
from bunqueue_trio.protocol.routes import ROUTES
from bunqueue_trio.testing.process import ServerProcess
from trials.bench.held_limits import RETENTION, limits, retention
from trials.bench.held_reads import reads
from trials.bench.held_work import Work, at_limits

WANTED_MS = 20.0
"""What is required of any step."""
_SHOWN_MS = 15.0
"""From this on a step is shown when it is seen."""
BYTES = 10 * 1024 * 1024 - 100_000
LOG = "STEPS_LOG"
"""The variable that names the file for what is noted."""
THEMES: dict[str, Callable[[Work], None]] = {"reads": reads, "limits": limits, "retention": retention}
"""What is done besides to send everything everywhere, each at a server of its own."""
OWN = {"door": {"DOORS": "1"}, "retention": RETENTION}
"""Settings of those servers."""
# Steps below this are not shown.
_NOTED_S = 0.004


def _times(each: bytes, size: int) -> bytes:
    return b",".join([each] * (size // (len(each) + 1)))


SHAPES: dict[str, Callable[[int], bytes]] = {
    "small lists": lambda n: b"[%s]" % _times(b"[1]", n - 2),
    "brackets": lambda n: b"[%s]" % _times(b"[]", n - 2),
    "deep": lambda n: b"[%s]" % _times(b"[" * 250 + b"]" * 250, n - 2),
    "objects": lambda n: b"[%s]" % _times(b'{"a":{}}', n - 2),
    "many keys": lambda n: b"{%s}" % b",".join(b'"%d":1' % i for i in range(n // 12)),
    "same keys": lambda n: b"{%s}" % _times(b'"data":1', n - 2),
    "a text": lambda n: b'"%s"' % (b"a" * (n - 2)),
    "escapes": lambda n: b'"%s"' % (rb"\n" * (n // 2 - 2)),
    "quotes": lambda n: b'"%s"' % (rb"\"" * (n // 2 - 2)),
    "surrogates": lambda n: b'"%s"' % (rb"\ud83d\ude00" * (n // 12 - 1)),
    "lone surrogates": lambda n: b'"%s"' % (rb"\ud83d" * (n // 6 - 1)),
    "no ASCII": lambda n: '"é"'.encode().replace("é".encode(), "é".encode() * (n // 2 - 2)),
    "texts": lambda n: b"[%s]" % _times(b'""', n - 2),
    "a number": lambda n: b"1" * n,
    "a fraction": lambda n: b"1." + b"1" * (n - 2),
    "spaces": lambda n: b"[%s]" % (b" " * (n - 2)),
    "wrong at the end": lambda n: b"[%s}" % _times(b"[1]", n - 2),
    "an open text": lambda n: b'"' + b"a" * (n - 2),
}
"""Values of about this many bytes."""


class Steps(trio.abc.Instrument):
    """Writes down each long step, and whose."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._begun = 0.0
        self._collecting = self._collected = 0.0
        gc.callbacks.append(self._note_collection)

    def _note_collection(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._collecting = time.thread_time()
        elif threading.get_ident() == threading.main_thread().ident:
            self._collected += time.thread_time() - self._collecting

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Note when a step begins."""
        self._collected = 0.0
        self._begun = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Write down what it took, if that is much."""
        took = time.thread_time() - self._begun
        if took < _NOTED_S:
            return
        frame: Any = task.coro
        names = []
        while frame is not None:
            names.append(getattr(frame, "__qualname__", "?"))
            frame = getattr(frame, "cr_await", None)
        with Path(self._path).open("a") as log:
            garbage = f", {self._collected * 1000:.1f} ms of it for garbage" if self._collected >= _NOTED_S / 2 else ""
            log.write(f"{took * 1000:.1f} {' > '.join(names[-8:])}{garbage}\n")


class Told:
    """What the server has written, from request to request."""

    def __init__(self, path: Path, wanted_ms: float = WANTED_MS) -> None:
        self._path, self._wanted_ms = path, wanted_ms
        self._at = 0
        self.worst: dict[str, tuple[float, str]] = {}
        path.touch()

    def note(self, what: str) -> None:
        """Count the steps since the last time as those of ``what``."""
        time.sleep(0.02)
        with self._path.open() as log:
            log.seek(self._at)
            lines = log.readlines()
            self._at = log.tell()
        for line in lines:
            ms, _, where = line.strip().partition(" ")
            if float(ms) > self.worst.get(what, (0.0, ""))[0]:
                self.worst[what] = (float(ms), where)
        found = self.worst.get(what, (0.0, ""))
        if found[0] >= min(_SHOWN_MS, self._wanted_ms):
            print(f"  {found[0]:6.1f} ms  {what}   {found[1]}", flush=True)

    def end(self) -> int:
        """Print the longest ones; return how many are too long."""
        print("the longest steps:")
        for what, (ms, where) in sorted(self.worst.items(), key=lambda each: -each[1][0])[:150]:
            print(f"{ms:7.1f} ms  {what:<50} {where}")
        return sum(ms > self._wanted_ms for ms, _ in self.worst.values())


def fields_of(kind: type[Any]) -> Iterator[str]:
    """Yield the names of a command's fields."""
    for field in msgspec.structs.fields(kind):
        if field.name != "req_id":
            yield field.encode_name


def needed(kind: type[Any], but: str) -> dict[str, bytes]:
    """Return values of the fields that a command needs."""
    one = {"id": b'"a"', "queue": b'"q"', "ids": b'["a"]', "jobs": b'[{"data":1}]', "failures": b'[{"id":"a"}]'}
    return {
        each.encode_name: one.get(each.encode_name, b"1")
        for each in msgspec.structs.fields(kind) if each.required and each.encode_name != but
    }  # fmt: skip


def bodies(kind: type[Any], *, whole: bool) -> Iterator[tuple[str, bytes]]:
    """Yield large bodies of a command: something large in each of its fields, and in one that it has not."""
    names = ["unknown", *fields_of(kind)] if whole else ["unknown"]
    shapes = SHAPES if whole else {name: SHAPES[name] for name in ("small lists", "wrong at the end", "many keys")}
    for name in names:
        for shape, make in shapes.items():
            fields = needed(kind, name) | {name: make(BYTES - 300)}
            yield f"{name}: {shape}", b"{%s}" % b",".join(b'"%s":%s' % (k.encode(), v) for k, v in fields.items())
    yield "keys of its own", b"{%s}" % b",".join(b'"k%d":[]' % i for i in range(BYTES // 14))
    yield "no object", SHAPES["small lists"](BYTES)
    yield "behind spaces", b" " * (BYTES - 200) + b"{}"


def lists_of(kind: type[Any]) -> Iterator[tuple[str, bytes]]:
    """Yield bodies with as many items as a command's lists may have, and more."""
    for field in msgspec.structs.fields(kind):
        shape = types.type_info(field.type)
        for option in shape.types if isinstance(shape, types.UnionType) else (shape,):
            if not isinstance(option, types.ListType) or option.max_length is None:
                continue
            for count in (option.max_length, 3_000_000):
                size = BYTES // count - 2
                struct = isinstance(option.item_type, types.StructType)
                for name, make in SHAPES.items():
                    if size > 30 and name in ("small lists", "brackets", "escapes", "texts", "objects", "a text"):
                        value = make(size - 25)
                        item = b'{"data":%s,"id":"a"}' % value if struct else value
                        fields = needed(kind, field.encode_name) | {
                            field.encode_name: b"[%s]" % b",".join([item] * count)
                        }
                        body = b"{%s}" % b",".join(b'"%s":%s' % (k.encode(), v) for k, v in fields.items())
                        yield f"{field.encode_name}: {count} of {name}", body
                item = b'{"data":1}' if struct else b'"i"'
                n = min(count, BYTES // (len(item) + 1))
                items = b",".join([item] * n) if struct else b",".join(b'"%d"' % i for i in range(min(n, BYTES // 9)))
                yield f"{field.encode_name}: {n} small ones", b'{"%s":[%s]}' % (field.encode_name.encode(), items)


class Http:
    """Requests over one connection; in chunks they go the slow lane."""

    def __init__(self, address: tuple[str, int], *, slow: bool = False) -> None:
        self._address, self._slow = address, slow

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Send a request, and return what is answered."""
        connection = http.client.HTTPConnection(*self._address, timeout=60)
        try:
            if self._slow and body is not None:
                parts = iter([body[i : i + 65536] for i in range(0, len(body), 65536)])
                connection.request(method, path, parts, {"Transfer-Encoding": "chunked"}, encode_chunked=True)
            else:
                connection.request(method, path, body, {"Expect": ""} if self._slow else {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


def over_http(told: Told, lane: str, client: Http, only: str, *, whole: bool) -> None:
    """Send everything to every path."""
    for route in ROUTES:
        kind: Any = route.target
        if isinstance(kind, str) or route.method == "GET" or not re.search(only, kind.__name__):
            continue
        path = re.sub(":[a-z]+", "a", route.path)
        for name, body in [*bodies(kind, whole=whole), *lists_of(kind)]:
            client.ask(route.method, path, body)
            told.note(f"{lane} {kind.__name__} {name}")


def over_websocket(told: Told, address: tuple[str, int], only: str, *, whole: bool) -> None:
    """Send every command in messages."""
    with connect("ws://{}:{}/ws".format(*address), max_size=None, compression=None, proxy=None) as peer:

        def ask(message: bytes) -> None:
            peer.send(message, text=True)
            peer.recv()

        ask(b'{"cmd":"Unsubscribe"}')
        for tag, kind in COMMANDS.items():
            if not re.search(only, kind.__name__):
                continue
            for name, body in [*bodies(kind, whole=whole), *lists_of(kind)]:
                head = b'{"cmd":"%s",' % tag.encode()
                ask(head + body[1:] if body[:1] == b"{" else body)
                told.note(f"ws {kind.__name__} {name}")
        for shape, make in SHAPES.items():
            for message in (
                b'{"cmd":"Nope","x":%s}', b'{"cmd":%s}', b'{"cmd":"Ping","reqId":%s}', b'{"reqId":%s,"cmd":"Nope"}', b'{"x":%s}', b"%s", b"[%s]",
            ):  # fmt: skip
                ask(message % make(BYTES - 100))
                told.note(f"ws {message.decode()} {shape}")


def large_replies(told: Told, client: Http, data: Path, only: str) -> None:
    """Ask for jobs with large payloads, results and errors in every way."""
    del data
    for shape, make in SHAPES.items():
        if shape in ("wrong at the end", "an open text") or not re.search(only, shape):
            continue
        value = make(BYTES - 300)
        text = make(BYTES - 300) if make(50)[:1] == b'"' else b'"x"'
        name = "r" + re.sub("[^a-z]", "", shape)
        steps = [
            ("POST", f"/queues/{name}/jobs", b'{"jobId":"%s","data":%s}' % (name.encode(), value)),
            ("GET", f"/jobs/{name}", None), ("GET", f"/queues/{name}/jobs/list?state=waiting", None), ("GET", f"/jobs?queue={name}", None),
            ("GET", f"/jobs?queue={name}&search=zz", None), ("GET", f"/ui/jobs/{name}", None), ("GET", f"/ui/jobs/{name}/data", None),
            ("GET", f"/ui/queues/{name}", None), ("GET", f"/queues/{name}/jobs", None),
            ("POST", f"/jobs/{name}/progress", b'{"progress":1,"message":%s}' % text),
            ("POST", f"/jobs/{name}/logs", b'{"message":%s}' % text),
            ("POST", f"/jobs/{name}/ack", b'{"result":%s}' % value),
            ("GET", f"/jobs/{name}/result", None), ("GET", f"/jobs/{name}", None), ("GET", f"/ui/jobs/{name}", None),
            ("GET", f"/queues/{name}/jobs/list?state=completed", None), ("GET", f"/jobs?queue={name}", None),
            ("POST", f"/queues/{name}/jobs", b'{"jobId":"%s2","maxAttempts":1,"data":%s}' % (name.encode(), value)),
            ("GET", f"/queues/{name}/jobs", None),
            ("POST", f"/jobs/{name}2/fail", b'{"error":%s}' % value),
            ("GET", f"/queues/{name}/dlq", None), ("GET", f"/ui/jobs/{name}2", None), ("GET", f"/ui/errors/{name}", None),
            ("POST", f"/queues/{name}/dlq/retry", b"{}"), ("PUT", f"/jobs/{name}2/data", b'{"data":%s}' % value),
        ]  # fmt: skip
        for method, path, body in steps:
            status, _ = client.ask(method, path, body)
            told.note(f"{method} {re.sub(name, 'r', path)} {shape} ({status})")


def serve(path: str) -> None:
    """Serve as usual, with the instrument."""
    run = trio.run

    def noting(main: Any, *args: Any, **options: Any) -> Any:
        return run(main, *args, instruments=[Steps(path)], **options)

    trio.run = noting  # type: ignore[assignment]
    sys.argv = ["bunqueue-trio", "serve"]
    runpy.run_module("bunqueue_trio", run_name="__main__")


def main() -> int:
    """Go over everything; return how many kinds of requests had too long a step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "lanes", nargs="*", default=["express", "slow", "ws", "door", "replies", "reads", "work", "limits", "retention"]
    )
    parser.add_argument("--only", default="", help="commands, by a regular expression")
    parser.add_argument("--whole", action="store_true", help="each shape in each field")
    given = parser.parse_args()
    if given.lanes == ["serve"]:
        serve(os.environ[LOG])
        return 0
    missed = 0
    with tempfile.TemporaryDirectory() as directory:
        for lane in given.lanes:
            print(lane, flush=True)
            log = Path(directory, f"{lane}.steps")
            settings = {LOG: str(log), "LOG_LEVEL": "warning"} | OWN.get("door" if "door" in lane else lane, {})
            data = Path(directory, f"{lane}.db")
            command = (sys.executable, "-m", "trials.bench.held", "serve")
            with ServerProcess(data, settings, command=command, within_s=120) as server:
                told = Told(log)
                if lane == "ws":
                    over_websocket(told, server.address, given.only, whole=given.whole)
                elif lane.startswith("work"):
                    at_limits(server.address, told.note, given.only)
                elif lane in THEMES:
                    THEMES[lane](Work(server.address, told.note, given.only))
                elif lane == "replies":
                    large_replies(told, Http(server.address), data, given.only)
                else:
                    over_http(told, lane, Http(server.address, slow=lane == "slow"), given.only, whole=given.whole)
                assert server.stop(signal.SIGTERM, 120) == 0
                if lane == "replies":
                    server.start()
                    told.note("the start on all of it")
                missed += told.end()
    return missed


if __name__ == "__main__":
    print(f"{len(CATALOG)} commands")
    sys.exit(1 if main() else 0)
