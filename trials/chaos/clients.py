"""The clients of the chaos trial, and their books: what each was answered, through whichever server it had asked.

No job is ever given back here, and its lease is longer than the trial. So one that two clients get has had two valid tokens.
"""

import json
import random
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import trio

from bunqueue_trio.testing.client import Cut, event_stream
from bunqueue_trio.testing.process import HOST

PAUSE_S = 0.02  # between two requests of a client: the machine is to have time for more than clients
ANSWER_WITHIN_S = 60.0  # longer than any pause may be
POLL_MS = 300
LEASE_MS = 3_600_000
AGAIN_S = 0.05
BULK = 500


@dataclass
class Books:
    """What the clients of one round were answered."""

    queue: str
    pushed: dict[str, int] = field(default_factory=dict)
    """Answered pushes: id → number."""
    tokens: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    acked: dict[str, str] = field(default_factory=dict)
    told: Counter[str] = field(default_factory=Counter)
    strange: list[str] = field(default_factory=list)
    """What no server should have said."""
    longest_s: float = 0.0
    """The longest time without an answered push."""
    last: float = field(default_factory=trio.current_time)

    @property
    def failed(self) -> int:
        """How many requests were answered with anything but 200, or not at all."""
        return sum(n for what, n in self.told.items() if not what.endswith(" 200"))

    def note_push(self, job_id: str, number: int) -> None:
        """Note an answered push."""
        now = trio.current_time()
        self.longest_s, self.last = max(self.longest_s, now - self.last), now
        self.pushed[job_id] = number


class Lost(Exception):
    """There was no answer."""


class Connection:
    """A kept connection to some server, made when it is needed."""

    def __init__(self) -> None:
        self.port = 0
        self._stream: trio.SocketStream | None = None

    async def request(self, port: int, method: str, target: str, body: bytes) -> tuple[int, Any]:
        """Return status and JSON of an answer.

        Raises:
            Lost: there was none.
        """
        if port != self.port:
            self.close()
        self.port = port
        try:
            with trio.fail_after(ANSWER_WITHIN_S):
                return await self._request(method, target, body)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError) as error:
            self.close()
            raise Lost(type(error).__name__) from None
        except BaseException:
            self.close()
            raise

    async def _request(self, method: str, target: str, body: bytes) -> tuple[int, Any]:
        if self._stream is None:
            self._stream = await trio.open_tcp_stream(HOST, self.port)
        await self._stream.send_all(b"%b %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (
            method.encode(), target.encode(), len(body), body
        ))  # fmt: skip
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += await self._more()
        head = data[:end].lower()
        size = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        while len(data) < end + 4 + size:
            data += await self._more()
        if b"connection: close" in head:
            self.close()
        return int(head[9:12]), json.loads(data[end + 4 :])

    async def _more(self) -> bytes:
        assert self._stream is not None
        data = await self._stream.receive_some(65536)
        if not data:
            raise trio.BrokenResourceError
        return bytes(data)

    def close(self) -> None:
        """End it."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.socket.close()


class Crowd:
    """Half of the clients push, half take jobs and complete them; a reader hears all events."""

    def __init__(self, ports: list[int], clients: int, rng: random.Random) -> None:
        self.ports: list[int] = list(ports)
        """Those that a load balancer would send clients to."""
        self.books: Books = Books("round-0")
        self.heard: Counter[str] = Counter()
        """Of each job, how often the event of its push came."""
        self.last_event: int | None = None
        self.hears: trio.Event = trio.Event()
        """Nothing is missed from now on."""
        self.strange: list[str] = []
        self._clients = clients
        self._rng = rng
        self._works = trio.Event()
        self._busy = 0
        self._number = 0

    async def run(self) -> None:
        """Go on until cancelled; :meth:`begin` lets them begin."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read)
            for n in range(self._clients):
                nursery.start_soon(self._again, self._work if n % 2 else self._push)

    async def fill(self, jobs: int) -> None:
        """Push this many jobs that nobody takes.

        Raises:
            Lost: there was no answer.
        """
        connection = Connection()
        try:
            for begin in range(0, jobs, BULK):
                pushes = {"jobs": [{"data": n} for n in range(begin, min(jobs, begin + BULK))]}
                sent = json.dumps(pushes).encode()
                status, _ = await connection.request(self.ports[0], "POST", "/queues/backlog/jobs/bulk", sent)
                assert status == 200, status
        finally:
            connection.close()

    def begin(self, queue: str) -> Books:
        """Let all clients work, on a queue of their own, and return their books."""
        self.books = Books(queue)
        self._works.set()
        return self.books

    async def rest(self) -> None:
        """Let all clients end what they do."""
        self._works = trio.Event()
        while self._busy:  # noqa: ASYNC110 - the last one does not know that it is
            await trio.sleep(0.02)

    async def wait_answered(self, more: int, within_s: float) -> bool:
        """Return whether as many more pushes as ``more`` are answered within that time."""
        books, before = self.books, len(self.books.pushed)
        with trio.move_on_after(within_s):
            while len(books.pushed) < before + more:  # noqa: ASYNC110 - they are counted, nobody tells
                await trio.sleep(0.02)
        return len(books.pushed) >= before + more

    async def _again(self, do: Callable[[Connection], Awaitable[None]]) -> None:
        connection = Connection()
        try:
            while True:
                await self._works.wait()
                self._busy += 1
                try:
                    await do(connection)
                finally:
                    self._busy -= 1
                await trio.sleep(PAUSE_S)
        finally:
            connection.close()

    async def _ask(self, connection: Connection, what: str, method: str, target: str, body: Any = None) -> Any:
        """Return a good answer, None if there is none."""
        # Who has a connection keeps it, as long as its server is to be asked.
        port = connection.port if connection.port in self.ports else self._rng.choice(self.ports)
        sent = b"" if body is None else json.dumps(body).encode()
        try:
            status, answer = await connection.request(port, method, target, sent)
        except Lost as lost:
            self.books.told[f"{what} {lost}"] += 1
            connection.port = 0
        else:
            self.books.told[f"{what} {status}" if status == 200 else f"{what} {status} {answer['error']}"] += 1
            if status == 200:
                return answer
            if status == 400:
                return {}
        await trio.sleep(AGAIN_S)
        return None

    async def _push(self, connection: Connection) -> None:
        books, self._number = self.books, self._number + 1
        number = self._number
        answer = await self._ask(connection, "push", "POST", f"/queues/{books.queue}/jobs", {"data": number})
        if answer:
            books.note_push(answer["id"], number)

    async def _work(self, connection: Connection) -> None:
        books = self.books
        target = f"/queues/{books.queue}/jobs?timeout={POLL_MS}&lockTtl={LEASE_MS}"
        answer = await self._ask(connection, "pull", "GET", target)
        if not answer or answer["job"] is None:
            return
        job_id, token = answer["job"]["id"], answer["token"]
        books.tokens[job_id].add(token)
        is_sure = True
        while True:
            answer = await self._ask(connection, "ack", "POST", f"/jobs/{job_id}/ack", {"token": token})
            if answer is not None:
                break
            is_sure = False  # it may have been taken, and its answer lost: then the next is refused
        if answer:
            books.acked[job_id] = token
        elif is_sure:
            books.strange.append(f"an ack of {job_id} was refused, and nobody else should have it")

    async def _read(self) -> None:
        """Hear all events, at one server after the other."""
        while True:
            try:
                async with event_stream(f"http://{HOST}:{self._rng.choice(self.ports)}", self.last_event) as events:
                    while True:
                        self._hear(*await events.next())
            except (Cut, OSError):
                await trio.sleep(AGAIN_S)

    def _hear(self, event_id: int, text: str) -> None:
        event = json.loads(text)
        if "connected" in event:
            self.last_event = self.last_event if self.last_event is not None else event_id
            self.hears.set()
            return
        if "gap" in event:
            self.strange.append(f"events are missing after {self.last_event}: {text}")
        elif self.last_event is not None and event_id <= self.last_event:
            self.strange.append(f"event {event_id} comes after {self.last_event}")
        elif event.get("eventType") == "pushed":
            self.heard[event["jobId"]] += 1
        self.last_event = event_id
