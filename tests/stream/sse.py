"""A reader of server-sent events that keeps what a browser hides: ids, the exact bytes, the headers."""

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

from tests.patience import PATIENCE_S
from tests.wire.server import Server


class Message(NamedTuple):
    """One message of a stream."""

    id: int
    text: bytes

    @property
    def data(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.text)
        return value


class EventReader(Iterator[Message]):
    """One stream; iterating ends when the server ends it."""

    def __init__(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        self.connection = connection
        self.response = response
        self.comments: list[bytes] = []

    def __next__(self) -> Message:
        event_id, data = None, None
        while line := self.response.readline():
            assert line.endswith(b"\n"), line
            line = line[:-1]
            if line.startswith(b":"):
                self.comments.append(line)
            elif not line and data is not None:
                assert event_id is not None, "a message without an id"
                return Message(event_id, data)
            elif line:
                name, _, value = line.partition(b": ")
                assert name in {b"id", b"data"}, line
                if name == b"id":
                    event_id = int(value)
                else:
                    assert data is None, "a message of two lines"
                    data = value
        assert data is None, "a message cut short"
        raise StopIteration

    def take(self, count: int) -> list[Message]:
        return [next(self) for _ in range(count)]

    def until(self, event_type: str, job_id: str) -> list[Message]:
        """Read up to and with one event of one job."""
        taken = []
        for message in self:
            taken.append(message)
            if message.data.get("eventType") == event_type and message.data["jobId"] == job_id:
                return taken
        raise AssertionError(f"the stream ended without {event_type} of {job_id}")


@contextmanager
def request(server: Server, path: str, headers: Mapping[str, str] | None = None) -> Iterator[EventReader]:
    """Ask for a stream; whatever the answer is can be looked at."""
    with closing(http.client.HTTPConnection(*server.address, timeout=PATIENCE_S)) as connection:
        connection.request("GET", path, headers=dict(headers or {}))
        with closing(connection.getresponse()) as response:
            yield EventReader(connection, response)


@contextmanager
def events(server: Server, path: str = "/events", *, after: int | None = None, **headers: str) -> Iterator[EventReader]:
    """Open a stream that must be granted, and read its connection message."""
    if after is not None:
        headers["Last-Event-ID"] = str(after)
    with request(server, path, headers) as reader:
        assert reader.response.status == 200, reader.response.read()
        hello = next(reader)
        assert set(hello.data) == {"connected", "clientId"}, hello
        yield reader
