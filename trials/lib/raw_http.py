"""The cheapest HTTP client that is one: a blocking socket, one request at a time, for filling, probing and waiting pulls.

Both servers give every answer a Content-Length; anything else is an error here and not a reason to guess.
"""

import json
import select
import socket
import time
from types import TracebackType
from typing import Any, NamedTuple, Self

TIMEOUT_S = 30.0
FILL_BATCH = 1000
PAYLOAD_BYTES = 50


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: bytes


class Connection:
    """One kept-alive connection."""

    def __init__(self, host: str, port: int) -> None:
        """Connect."""
        self._address = (host, port)
        self._host = f"{host}:{port}"
        self._connect()

    def _connect(self) -> None:
        self.socket = socket.create_connection(self._address, TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read = b""
        self._over = False  # the last answer said `Connection: close`

    def __enter__(self) -> Self:
        """Enter a block that the connection does not outlive."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.socket.close()

    def send(self, method: str, path: str, body: bytes = b"") -> None:
        """Send a request, on a new connection if the server has ended the old one."""
        if self._over:
            self.socket.close()
            self._connect()
        kind = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if method in ("POST", "PUT") else ""
        self.socket.sendall(f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\n{kind}\r\n".encode() + body)

    def receive(self) -> Answer:
        """Wait for the next answer."""
        while (end := self._read.find(b"\r\n\r\n")) < 0:
            self._more()
        head, start, length = self._read[:end].lower(), end + 4, -1
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name == b"content-length":
                length = int(value)
            elif name == b"connection":
                self._over = value.strip() == b"close"
        if length < 0:
            raise OSError("an answer without Content-Length")
        while len(self._read) < start + length:
            self._more()
        body, self._read = self._read[start : start + length], self._read[start + length :]
        return Answer(int(head[9:12]), body)

    def request(self, method: str, path: str, body: bytes = b"") -> Answer:
        """Send a request and wait for its answer."""
        self.send(method, path, body)
        return self.receive()

    def get(self, path: str) -> Any:
        """Return the JSON at `path`; anything but a 200 is an error."""
        return _good(self.request("GET", path))

    def post(self, path: str, body: bytes) -> Any:
        """Return the JSON that answers `body`; anything but a 200 is an error."""
        return _good(self.request("POST", path, body))

    def _more(self) -> None:
        data = self.socket.recv(1 << 18)
        if not data:
            raise OSError("the server closed the connection")
        self._read += data


def _good(answer: Answer) -> Any:
    if answer.status != 200:
        raise OSError(f"status {answer.status}: {answer.body[:200]!r}")
    return json.loads(answer.body)


def payload(size: int = PAYLOAD_BYTES) -> bytes:
    """Return a JSON object of exactly `size` bytes."""
    empty = b'{"to":""}'
    return empty[:-2] + b"x" * (size - len(empty)) + empty[-2:]


def push_body(*, durable: bool = False) -> bytes:
    """Return the body of a push."""
    return b'{"data":%b%b}' % (payload(), b',"durable":true' if durable else b"")


def bulk_body(count: int) -> bytes:
    """Return the body of a bulk push."""
    return b'{"jobs":[%b]}' % b",".join([push_body()] * count)


def fill(connection: Connection, queue: str, jobs: int) -> None:
    """Push that many jobs; each batch must be answered with as many ids."""
    while jobs:
        count = min(jobs, FILL_BATCH)
        ids = connection.post(f"/queues/{queue}/jobs/bulk", bulk_body(count))["ids"]
        if len(ids) != count:
            raise OSError(f"{len(ids)} ids for {count} jobs")
        jobs -= count


def hand_over(poller: Connection, producer: Connection, seconds: float, most: int = 2000) -> list[float]:
    """Return the seconds from sending a push until a waiting pull has its job, again and again.

    Each job is acknowledged before the next poll begins; the pause lets the poll get to the server first.
    """
    body = push_body()
    times: list[float] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and len(times) < most:
        poller.send("GET", "/queues/handover/jobs?timeout=10000")
        time.sleep(0.002)
        if select.select([poller.socket], [], [], 0)[0]:
            raise OSError("a waiting pull was answered before there was a job")
        begun = time.perf_counter()
        producer.send("POST", "/queues/handover/jobs", body)
        job = _good(poller.receive())["job"]
        times.append(time.perf_counter() - begun)
        _good(producer.receive())
        producer.post(f"/jobs/{job['id']}/ack", b"{}")
    return times
