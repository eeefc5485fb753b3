"""Puts the scenario to one server: over HTTP and over a WebSocket, each with names of its own, and listens to its events."""

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlencode

from websockets.sync.client import ClientConnection, connect

from bunqueue_trio.testing.process import HOST
from trials.compat.scenario import SCENARIO, SENT, Call
from trials.compat.shapes import Answer, Shape, answer_of, shape_of, union
from trials.lib.servers import BenchError, Server

WITHIN_S = 60.0
"""For what hangs: an answer takes milliseconds."""

Heard = dict[int, Answer]
"""By its place in the scenario, what each call was answered."""


class Asker:
    """One run over the scenario: fills in its names, and keeps what later calls need."""

    def __init__(self, prefix: str) -> None:
        """Give all names of this run this prefix."""
        self._prefix = prefix
        self._kept: dict[str, Any] = {}

    def filled(self, value: Any) -> Any:
        """Return ``value`` with its ``~names`` and ``$names`` filled in."""
        match value:
            case str() if value.startswith("~"):
                return self._prefix + value[1:]
            case str() if value.startswith("$"):
                return self._kept[value[1:]]
            case list():
                return [self.filled(inner) for inner in value]
            case Mapping():
                return {name: self.filled(inner) for name, inner in value.items()}
            case _:
                return value

    def keep(self, call: Call, said: Any) -> None:
        """Keep what later calls need of an answer.

        Raises:
            BenchError: it is not there.
        """
        for name, path in call.keep.items():
            found = said
            for step in path.split("."):
                try:
                    found = found[int(step)] if step.isdigit() else found[step]
                except (LookupError, TypeError):
                    raise BenchError(f"{call.route}, {call.title}: no {path} in {str(said)[:200]}") from None
            self._kept[name] = found


def ask_http(server: Server, commands: Mapping[str, str | None]) -> Heard:
    """Ask all of it over HTTP; what has no command here is asked all the same, but nothing that it gives is needed then."""
    asker, heard = Asker("http-"), Heard()
    with server.connect() as connection:
        for place, call in enumerate(SCENARIO):
            if " " not in call.route:
                continue
            method, path = call.route.split(" ")
            try:
                path = path_of(path, asker.filled(call.names))
            except KeyError:
                if commands.get(call.route):
                    raise
                continue
            fields = asker.filled(call.fields)
            if method == "GET" and fields:
                path += "?" + urlencode(fields)
            body = fields if isinstance(fields, str) else json.dumps(fields)
            status, said = connection.request(method, path, body.encode() if method in ("POST", "PUT") else b"")
            heard[place] = answer_of(status, said)
            if commands.get(call.route) or status == http.client.OK:
                _keep_of(asker, call, said, needed=bool(commands.get(call.route)))
    return heard


def _keep_of(asker: Asker, call: Call, said: bytes, *, needed: bool) -> None:
    if call.keep:
        try:
            asker.keep(call, json.loads(said))
        except BenchError:
            if needed:
                raise


def path_of(path: str, names: Mapping[str, Any]) -> str:
    """Return a path with its ``:names`` filled in."""
    return "/".join(quote(str(names[part[1:]]), safe="") if part.startswith(":") else part for part in path.split("/"))


def ask_websocket(server: Server, commands: Mapping[str, str | None]) -> Heard:
    """Send what both have a command for over a WebSocket."""
    asker, heard = Asker("ws-"), Heard()
    with listening(server) as socket:
        for place, call in enumerate(SCENARIO):
            command = commands.get(call.route)
            if command is None or isinstance(call.fields, str):
                continue
            fields = {**asker.filled(call.names), **asker.filled(call.fields), **asker.filled(call.ws)}
            socket.send(json.dumps({"cmd": command, **fields, "reqId": place}))
            said = reply(socket, place)
            heard[place] = answer_of(None, said)
            asker.keep(call, said)
    return heard


def reply(socket: ClientConnection, place: int) -> dict[str, Any]:
    """Return the reply to a command; events between are passed over."""
    while True:
        said: dict[str, Any] = json.loads(socket.recv(timeout=WITHIN_S))
        if said.get("reqId") == place:
            return said
        if "ok" in said:
            raise BenchError(f"{SCENARIO[place].route}: {said}")


@contextmanager
def listening(server: Server) -> Iterator[ClientConnection]:
    """Open a WebSocket, which hears all events."""
    # Nothing waits for a slow machine: pings of ours would end it, and a full buffer would leave the server's unanswered.
    patient: dict[str, Any] = {"open_timeout": WITHIN_S, "ping_interval": None, "max_queue": None, "max_size": None}
    with connect(f"ws://{HOST}:{server.port}/ws", proxy=None, **patient) as socket:
        yield socket


def events_of(server: Server, socket: ClientConnection) -> dict[str, Shape]:
    """Return the shape of each type of event that a socket has heard up to now; a field that is not in all of them is there, too."""
    with server.connect() as connection:
        last = connection.post("/queues/last/jobs", json.dumps({"data": SENT}).encode())["id"]
    shapes: dict[str, Shape] = {}
    while True:
        said = json.loads(socket.recv(timeout=WITHIN_S))
        shape = shapes.setdefault(said["eventType"], {})
        for path, kind in shape_of(said).items():
            if not path.startswith("data."):
                shape[path] = union(shape.get(path, kind), kind)
        if said.get("jobId") == last:
            return shapes


def stream_of(server: Server, route: str) -> list[Answer]:
    """Return the first message of an event stream, and the one that tells of a push."""
    queue = "streamed"
    stream = http.client.HTTPConnection(HOST, server.port, timeout=WITHIN_S)
    stream.request("GET", path_of(route.split(" ")[1], {"queue": queue}))
    response = stream.getresponse()
    try:
        first = _message(response)
        with server.connect() as connection:
            connection.post(f"/queues/{queue}/jobs", json.dumps({"data": SENT}).encode())
        pushed = _message(response)
        while "jobId" not in pushed["data"]:
            pushed = _message(response)
    finally:
        stream.close()
    return [Answer(response.status, is_good=True, shape=shape_of(message)) for message in (first, pushed)]


def _message(response: http.client.HTTPResponse) -> dict[str, Any]:
    """Return the next message that has data: its fields, with its data read.

    Raises:
        BenchError: the stream has ended.
    """
    found: dict[str, Any] = {}
    while line := response.readline().decode():
        name, _, value = line.strip().partition(":")
        if name in ("id", "event", "retry", "data"):
            found[name] = json.loads(value) if name == "data" else value.strip()
        elif not line.strip() and "data" in found:
            return found
    raise BenchError("an event stream has ended")
