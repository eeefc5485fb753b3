"""What a request costs by the way it comes: over TLS, through Hypercorn, in bulk, by a waiting pull, over WebSocket; and with many queues.

The server's CPU time for each request, beside that of a plain push over as many connections, in pairs that take turns: a busy machine
tells much the same as a quiet one. Fails when a push to one of 1,000 or of 100,000 queues costs more than 1.15 or 1.4 times as much as
to one queue, or when a queue with one job takes more than 500 bytes beside the job.
"""

import select
import socket
import ssl
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import trustme

from bunqueue_trio.testing.process import HOST
from trials.bench import wrk
from trials.lib.raw_http import bulk_body, fill, push_body
from trials.lib.raw_ws import WebSocket, push_message
from trials.lib.servers import BenchError, Server, ours

CONNECTIONS = 32
# Workers that wait, each on a connection of its own, and jobs that are under way at once.
WAITING, UNDER_WAY = 200, 16
BATCH = 10
QUEUES = {1_000: 1.15, 100_000: 1.4}
"""How many of them, and how many times as much as with one queue a push may cost."""
QUEUE_BYTES_MAX = 500.0
WARMUP_S = 1


class Way(NamedTuple):
    """A way in: its words, what it does to a server for some seconds and how many requests that were, and the server's settings."""

    title: str
    ask: Callable[[Server, int], int]
    settings: tuple[tuple[str, str], ...] = ()
    most: float | None = None
    """How many times as much as a plain push it may cost."""
    warmup: int = 1
    """How often it asks at least before it is measured."""


class TlsServer(Server):
    """One that speaks TLS, to clients that look at no certificate."""

    @property
    def url(self) -> str:
        """The address for clients over HTTPS."""
        return f"https://{HOST}:{self.port}"

    def is_ready(self) -> bool:
        """Return whether it answers over TLS."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            with (
                socket.create_connection((HOST, self.port), 20) as bare,
                context.wrap_socket(bare) as secure,
            ):
                secure.sendall(b"GET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                return b" 200 " in secure.recv(4096)
        except OSError:
            # It does not listen yet.
            return False


def load(made: wrk.Load, server: Server, seconds: int) -> int:
    """Ask by wrk; whole cycles count where it makes some."""
    found = wrk.run(made, server.url, seconds)
    return found.rounds or found.requests


def look(server: Server, seconds: int) -> int:
    """Ask for the state of one job."""
    with server.connect() as connection:
        job_id = connection.post("/queues/looked-at/jobs", push_body())["id"]
    return load(wrk.get(CONNECTIONS, f"/jobs/{job_id}/state"), server, seconds)


def over_websocket(in_flight: int, server: Server, seconds: int) -> int:
    """Push over one WebSocket."""
    client = WebSocket(HOST, server.port, push_message())
    try:
        good, bad, _ = client.run(in_flight, seconds)
    finally:
        client.close()
    if bad:
        raise BenchError(f"WebSocket: {bad} commands were refused")
    return good


def beside_a_reader(server: Server, seconds: int) -> int:
    """Push while somebody reads all events."""
    with socket.create_connection((HOST, server.port)) as stream, ThreadPoolExecutor(1) as beside:
        stream.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        reading = beside.submit(_read_to_the_end, stream)
        asked = PUSH.ask(server, seconds)
        if reading.done():
            raise BenchError("the stream of events has ended")
        stream.shutdown(socket.SHUT_RDWR)
    return asked


def _read_to_the_end(stream: socket.socket) -> None:
    while stream.recv(1 << 20):
        pass


def by_waiting_pulls(server: Server, seconds: int) -> int:
    """Push, and end, jobs that WAITING workers wait for, each on a connection of its own."""
    workers, producers = (
        {each.fileno(): each for each in (socket.create_connection((HOST, server.port)) for _ in range(count))}
        for count in (WAITING, UNDER_WAY)
    )
    poll = b"GET /queues/awaited/jobs?timeout=30000 HTTP/1.1\r\nHost: x\r\n\r\n"
    poller, idle, done = select.epoll(), list(producers.values()), 0
    waits = dict.fromkeys(workers, True)
    try:
        for descriptor, each in (workers | producers).items():
            poller.register(descriptor, select.EPOLLIN)
            if descriptor in workers:
                each.sendall(poll)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            while idle:
                idle.pop().sendall(_request("/queues/awaited/jobs", push_body()))
            for descriptor, _ in poller.poll(1):
                each = workers.get(descriptor) or producers[descriptor]
                data = each.recv(1 << 16)
                if not data.startswith(b"HTTP/1.1 200 "):
                    raise BenchError(f"a waiting pull: {data[:200]!r}")
                if descriptor in producers:
                    continue
                if waits[descriptor]:
                    job_id = data.partition(b'"id":"')[2].partition(b'"')[0].decode()
                    each.sendall(_request(f"/jobs/{job_id}/ack", b"{}"))
                else:
                    done += 1
                    idle.append(list(producers.values())[done % UNDER_WAY])
                    each.sendall(poll)
                waits[descriptor] = not waits[descriptor]
    finally:
        poller.close()
        for each in (workers | producers).values():
            each.close()
    return done


def _request(path: str, body: bytes) -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (path.encode(), len(body), body)


PUSH = Way("a push", partial(load, wrk.push(CONNECTIONS)))
WAYS = (
    Way("the same over TLS", PUSH.ask, (("TLS_CERT_FILE", "cert.pem"), ("TLS_KEY_FILE", "key.pem"))),
    Way("the same through Hypercorn (EXPRESS=false)", PUSH.ask, (("EXPRESS", "false"),)),
    Way("the same while one reads all events", beside_a_reader),
    *(
        Way(f"the same to one of {queues:,} queues", partial(load, wrk.push_to_many(CONNECTIONS, queues)), (), most, queues)
        for queues, most in QUEUES.items()
    ),
    Way("a push over 1 connection", partial(load, wrk.push(1))),
    Way("a push over WebSocket, one after the other", partial(over_websocket, 1)),
    Way("a look at the state of a job", look),
    Way("a push, a pull and an ack, 8 connections", partial(load, wrk.cycle(8, "cycle", pushing=True))),
    Way("the same, 1 connection", partial(load, wrk.cycle(1, "cycle", pushing=True))),
    Way(f"the same of {BATCH} jobs at once, 8 connections", partial(load, wrk.batches(8, bulk_body(BATCH), BATCH))),
    Way(f"the same with {WAITING} pulls that wait", by_waiting_pulls),
)  # fmt: skip


def run(rounds: int, seconds: int, data_dir: Path | None, only: list[str], *, judged: bool) -> int:
    """Measure all ways, print a line for each, and return the exit code."""
    missed = 0
    print(f"medians of {rounds} pairs; CPU of the server for each, and beside a push over {CONNECTIONS} connections")
    for way in WAYS:
        if only and not any(word in way.title for word in only):
            continue
        costs, ratios = [], []
        for number in range(rounds):
            pair = [(each, _cost(each, seconds, data_dir)) for each in ((PUSH, way) if number % 2 else (way, PUSH))]
            found = dict(pair)
            costs.append(found[way])
            ratios.append(found[way] / found[PUSH])
        ratio = statistics.median(ratios)
        is_met = way.most is None or ratio <= way.most
        missed += not is_met
        verdict = "" if way.most is None else f"   at most {way.most:g} ×: {'met' if is_met else 'MISSED'}"
        print(f"  {way.title:<46} {statistics.median(costs):8.1f} µs {ratio:7.2f} ×{verdict}", flush=True)
    if not only:
        size = _queue_bytes(data_dir)
        missed += size > QUEUE_BYTES_MAX
        verdict = "met" if size <= QUEUE_BYTES_MAX else "MISSED"
        print(f"  a queue with one job, beside the job: {size:.0f} bytes   at most {QUEUE_BYTES_MAX:g}: {verdict}")
    return int(judged and missed > 0)


def _cost(way: Way, seconds: int, data_dir: Path | None) -> float:
    """Return the server's CPU time for each request, in µs."""
    with _running(way, data_dir) as server:
        asked = 0
        while asked < way.warmup:
            asked += way.ask(server, WARMUP_S)
        cpu = server.cpu_s()
        asked = way.ask(server, seconds)
        return (server.cpu_s() - cpu) * 1e6 / asked


@contextmanager
def _running(way: Way, data_dir: Path | None) -> Iterator[Server]:
    kind, settings = ours(), way.settings
    with tempfile.TemporaryDirectory(prefix="bench-", dir=data_dir, ignore_cleanup_errors=True) as directory:
        is_secure = any(name.startswith("TLS") for name, _ in settings)
        if is_secure:
            made = trustme.CA().issue_cert(HOST)
            made.private_key_pem.write_to_path(str(Path(directory, "key.pem")))
            made.cert_chain_pems[0].write_to_path(str(Path(directory, "cert.pem")))
        kind = replace(kind, environment=(*kind.environment, *settings))
        server = (TlsServer if is_secure else Server)(kind, Path(directory))
        try:
            yield server
        finally:
            server.kill()


def _queue_bytes(data_dir: Path | None, count: int = 100_000) -> float:
    """Return what a queue with one job takes in memory beside the job."""
    sizes = []
    for many in (True, False):
        with _running(PUSH, data_dir) as server, server.connect() as connection:
            fill(connection, "warm", 1000)
            before = server.rss_bytes()
            for n in range(0, count, 100):
                names = [f"queue-{m}" if many else "queue" for m in range(n, n + 100)]
                connection.socket.sendall(b"".join(_request(f"/queues/{name}/jobs", push_body()) for name in names))
                for _ in names:
                    connection.receive()
            server.collect_garbage()
            sizes.append(server.rss_bytes() - before)
    return (sizes[0] - sizes[1]) / count
