"""The attacks of `overload.py`, each a function: first those of clients that send, or read, too slowly or too much."""

import subprocess
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import trio

from trials.overload.crowd import (
    HANDSHAKE,
    HANG_UPS,
    Attack,
    feed,
    frame,
    open_websocket,
    pipelined,
    random_bytes,
    read_answer,
    request_bytes,
    send_now,
    spread,
)
from trials.overload.work import (
    ack_batches,
    dependencies,
    dependents,
    large_pulls,
    log_flood,
    priorities,
    probes,
    push_batches,
    release,
    replays,
    retention,
)

MIB = 2**20
PUSH = request_bytes("POST", "/queues/attack/jobs", b'{"data":1}')
LARGE = 10 * MIB - 100
"""Bytes of the largest body that is taken, with room for what is around its payload."""


@dataclass(frozen=True)
class Scenario:
    """One attack, and what it may cost the server."""

    run: Callable[[Attack], Awaitable[None]]
    bound: str
    """What bounds it, in words and settings."""
    growth_mib: int
    """Most memory that the server may take during it, beyond what it had."""
    env: dict[str, str] = field(default_factory=dict)
    descriptors: int | None = None
    lanes: tuple[str, ...] = ("express", "hypercorn")
    refuses: bool = False
    """The good client may be told 503: at once, which counts as an answer."""

    @property
    def runs_under_asgi(self) -> bool:
        """Whether plain Hypercorn promises it: it has no limit of descriptors, and its TLS is not ours."""
        return "hypercorn" in self.lanes and self.run not in {descriptors, flood_tls}

    @property
    def about(self) -> str:
        """What it does, in a sentence."""
        return (self.run.__doc__ or "").split("\n", 1)[0]


# --- slow clients -------------------------------------------------------------------------------------------------


async def slow_headers(attack: Attack) -> None:
    """2,000 clients send a header, a byte a second."""
    async with attack.crowd(attack.size(2000, 300), b"POST /queues/attack/jobs HTTP/1.1\r\nHost: x\r\nX: ") as streams:
        ended = await feed(streams, attack.size(40, 1), b"a")
        attack.notes.append(f"{ended} of {len(streams)} were cut")


async def slow_bodies(attack: Attack) -> None:
    """2,000 clients send a body, a byte a second."""
    head = request_bytes("POST", "/queues/attack/jobs", b'{"data":"', length=1_000_000)
    async with attack.crowd(attack.size(2000, 300), head) as streams:
        ended = await feed(streams, attack.size(70, 1), b"a")
        attack.notes.append(f"{ended} of {len(streams)} were cut")


async def idle(attack: Attack) -> None:
    """5,000 clients keep their connection after one request."""
    async with attack.crowd(attack.size(5000, 400), request_bytes("GET", "/ping")) as streams:
        await trio.sleep(attack.size(10, 1))
        attack.notes.append(f"{len(streams)} held, {attack.target.look().descriptors} descriptors in use")


async def descriptors(attack: Attack) -> None:
    """More clients than the process has descriptors for come, and stay."""
    async with attack.crowd(400, request_bytes("GET", "/ping")) as streams:
        before = attack.target.look().cpu_s
        seconds = attack.size(10, 2)
        await trio.sleep(seconds)
        attack.notes.append(f"{len(streams)} came, {attack.target.look().descriptors} descriptors in use")
        attack.check(attack.target.look().cpu_s - before < 0.5 * seconds, "the server spins while it cannot accept")


# --- floods -------------------------------------------------------------------------------------------------------


async def _flood(attack: Attack, sent: bytes, *, waits: bool) -> None:
    end = trio.current_time() + attack.size(15, 2)
    count = 0

    async def one() -> None:
        nonlocal count
        while trio.current_time() < end:
            try:
                stream = await attack.connect()
                async with stream:
                    if sent:
                        await stream.send_all(sent)
                    if waits:
                        with trio.move_on_after(5):
                            while await stream.receive_some(65536):
                                pass
            except HANG_UPS:
                await trio.sleep(0.01)  # refused, or out of local ports
            count += 1

    begun = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(attack.size(200, 50)):
            nursery.start_soon(one)
    attack.notes.append(f"{count / (trio.current_time() - begun):,.0f} connects a second")


async def flood_connect(attack: Attack) -> None:
    """Clients connect and hang up, as fast as they can."""
    await _flood(attack, b"", waits=False)


async def flood_requests(attack: Attack) -> None:
    """Clients connect, make one request and hang up, as fast as they can."""
    await _flood(attack, request_bytes("GET", "/ping", close=True), waits=True)


async def flood_garbage(attack: Attack) -> None:
    """Clients connect and send noise, as fast as they can."""
    await _flood(attack, b"\xff" + random_bytes(200) + b"\r\n\r\n", waits=True)


async def flood_tls(attack: Attack) -> None:
    """Clients of a TLS port begin with what is no handshake, as fast as they can."""
    # A whole record, which is refused at once: with a length by chance most wait for more, and it is no flood.
    await _flood(attack, b"\x16\x03\x01\x00\xc8\xff" + random_bytes(199), waits=True)


# --- clients that do not read --------------------------------------------------------------------------------------


async def _large_job(attack: Attack) -> str:
    status, answer = await attack.request("POST", "/queues/large/jobs", b'{"data":"%s"}' % (b"a" * LARGE))
    attack.check(status == 200, f"a body below the limit is refused: {status} {answer[:200]!r}")
    return answer.split(b'"id":"')[1].split(b'"')[0].decode()


async def unread_answers(attack: Attack) -> None:
    """1,000 clients ask for a job of 10 MiB, again and again, and read nothing."""
    job_id = await _large_job(attack)
    asked = request_bytes("GET", f"/jobs/{job_id}") * 10
    async with attack.crowd(attack.size(1000, 100), asked) as streams:
        await trio.sleep(attack.size(10, 2))
        attack.notes.append(f"{len(streams)} clients")


async def unread_websockets(attack: Attack) -> None:
    """500 WebSockets ask for jobs of 10 MiB, ping, and read nothing."""
    job_id = await _large_job(attack)
    asked = frame(b'{"cmd":"GetJob","id":"%s"}' % job_id.encode()) * 5
    streams: list[trio.SocketStream] = []

    async def one(_: int) -> None:
        stream = await open_websocket(attack)
        streams.append(stream)
        await stream.send_all(asked)

    await spread(range(attack.size(500, 50)), one, 20)
    pings = frame(b"p" * 100, opcode=9) * 600
    for _ in range(attack.size(100, 10)):
        for stream in streams:
            send_now(stream, pings)
        await trio.sleep(0.1)
    for stream in streams:
        stream.socket.close()
    attack.notes.append(f"{len(streams)} WebSockets")


async def unread_events(attack: Attack) -> None:
    """500 SSE and 500 WebSocket subscribers read nothing while others push."""
    count = attack.size(500, 50)
    async with (
        attack.crowd(count, b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n") as streams,
        attack.crowd(count, HANDSHAKE % (b"/ws", b"")) as websockets,
    ):
        body = b'{"jobs":[%s]}' % b",".join([b'{"data":"%s","removeOnComplete":true}' % (b"a" * 10_000)] * 100)
        pushes = attack.size(100, 10)
        for _ in range(pushes):
            await attack.request("POST", "/queues/attack/jobs/bulk", body)
        await trio.sleep(attack.size(5, 1))
        attack.notes.append(f"{len(streams) + len(websockets)} readers, {pushes} MB of events")


# --- large things -------------------------------------------------------------------------------------------------


async def large_bodies(attack: Attack) -> None:
    """500 clients send all but the end of a body of 10 MiB, and stay."""
    held = b"a" * LARGE
    head = request_bytes("POST", "/queues/attack/jobs", b'{"data":"', length=len(held) + 11)
    refused = 0

    async def one(index: int) -> None:
        nonlocal refused
        stream = streams[index]
        with trio.move_on_after(20):
            await stream.send_all(held)
            with trio.move_on_after(2):
                status, _ = await read_answer(stream)
                refused += status == 503
            return
        refused += 1

    async with attack.crowd(attack.size(500, 60), head) as streams:
        await spread(streams, one, 50)
        await trio.sleep(attack.size(10, 1))
        attack.notes.append(f"{refused} of {len(streams)} were told 503")


async def too_large(attack: Attack) -> None:
    """Bodies and heads above the limits come in all forms, 50 at once."""
    chunked = b"POST /queues/attack/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    forms = [
        request_bytes("POST", "/queues/attack/jobs", b"a" * (11 * MIB)),
        chunked + b"1\r\na\r\n" * (2 * MIB) + b"zzz\r\n",
        chunked + (b"10000\r\n%s\r\n" % (b"a" * 65536)) * 200,
        chunked.replace(b"POST", b"GET").replace(b"/jobs", b"/jobs?timeout=3000")
        + (b"10000\r\n%s\r\n" % (b"a" * 65536)) * 1600,
        b"GET /ping HTTP/1.1\r\nHost: x\r\n" + b"X: a\r\n" * 200_000,
        b"GET /" + b"a" * MIB + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nHost: x\r\nX: " + b"a" * (8 * MIB),
    ]
    count = attack.size(350, 28)
    statuses: dict[int, int] = {}

    async def one(index: int) -> None:
        stream = await attack.connect()
        status = 0
        async with stream, trio.open_nursery() as nursery:

            async def send() -> None:
                try:
                    await stream.send_all(forms[index % len(forms)])
                except HANG_UPS:
                    pass  # it was told, and cut

            nursery.start_soon(send)
            with trio.move_on_after(15):
                try:
                    status, _ = await read_answer(stream)
                except HANG_UPS:
                    pass
            nursery.cancel_scope.cancel()
        statuses[status] = statuses.get(status, 0) + 1

    await spread(range(count), one, 50)
    attack.notes.append("answers: " + ", ".join(f"{n} × {status or 'cut'}" for status, n in sorted(statuses.items())))
    endless_polls = len(range(3, count, len(forms)))  # a poll's body means nothing, so it is answered
    attack.check(500 not in statuses and statuses.get(200, 0) <= endless_polls, f"one was taken: {statuses}")


async def large_frames(attack: Attack) -> None:
    """WebSocket messages at the limit that never end, above it, in a million fragments, and compressed bombs."""
    zeros = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = zeros.compress(b"\0" * (64 * MIB)) + zeros.flush(zlib.Z_SYNC_FLUSH)
    forms = [
        frame(b"a" * LARGE, length=LARGE + 50),
        frame(b"a" * (11 * MIB)),
        frame(b"", fin=False) + frame(b"a" * 7, opcode=0, fin=False) * 400_000,
        frame(bomb[:-4], bits=0x40),
    ]

    async def one(index: int) -> None:
        stream = await open_websocket(attack, extra=b"Sec-WebSocket-Extensions: permessage-deflate\r\n")
        streams.append(stream)
        with trio.move_on_after(20):
            await stream.send_all(forms[index % len(forms)])

    streams: list[trio.SocketStream] = []
    await spread(range(attack.size(400, 40)), one, 50)
    await trio.sleep(attack.size(10, 1))
    for stream in streams:
        stream.socket.close()
    attack.notes.append(f"{len(streams)} WebSockets")


# --- many names ----------------------------------------------------------------------------------------------------


async def many_queues(attack: Attack) -> None:
    """A million queue names: a job each, and as many that are only asked about."""
    count = attack.size(1_000_000, 20_000)
    for start in range(0, count, 20_000):
        names = [b"q-%d" % n for n in range(start, start + 20_000)]
        await pipelined(attack, [request_bytes("GET", f"/queues/{name.decode()}-none/jobs") for name in names[::4]])
        jobs = [request_bytes("POST", f"/queues/{name.decode()}/jobs", b'{"data":1,"ttl":3000}') for name in names]
        await pipelined(attack, jobs)
    for path in ("/stats", "/prometheus", "/health"):
        status, _ = await attack.request("GET", path)
        attack.check(status == 200, f"{path}: {status}")
    await trio.sleep(4)
    attack.notes.append(f"{count:,} queues")


async def many_clients(attack: Attack) -> None:
    """A million addresses in X-Forwarded-For, and as many wrong tokens."""
    count = attack.size(1_000_000, 40_000)
    for start in range(0, count, 20_000):
        await pipelined(attack, [
            b"GET /ping HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: a-%d\r\nAuthorization: Bearer %d\r\n\r\n" % (n, n)
            for n in range(start, start + 20_000)
        ])  # fmt: skip
    attack.notes.append(f"{count:,} addresses")


async def many_ids(attack: Attack) -> None:
    """A million job ids and unique keys, in bulk, of jobs that expire."""
    count = attack.size(1_000_000, 50_000)
    for start in range(0, count, 1000):
        jobs = b",".join(
            b'{"data":1,"jobId":"i-%d","uniqueKey":"k-%d","ttl":2000}' % (n, n) for n in range(start, start + 1000)
        )
        await attack.request("POST", "/queues/attack/jobs/bulk", b'{"jobs":[%s]}' % jobs)
    await trio.sleep(4)
    attack.notes.append(f"{count:,} ids and keys")


async def many_polls(attack: Attack) -> None:
    """10,000 long polls wait, half over HTTP, half over WebSocket; then each gets a job."""
    half = attack.size(5000, 300)
    asked = frame(b'{"cmd":"PULL","queue":"polled","timeout":60000}')
    per_socket = 100
    async with attack.crowd(half, request_bytes("GET", "/queues/polled/jobs?timeout=60000")) as streams:
        sockets: list[trio.SocketStream] = []

        async def listen(_: int) -> None:
            stream = await open_websocket(attack)
            sockets.append(stream)
            await stream.send_all(frame(b'{"cmd":"Unsubscribe"}') + asked * per_socket)

        await spread(range(half // per_socket), listen)
        await trio.sleep(attack.size(5, 1))
        polls = half + half // per_socket * per_socket
        begun = trio.current_time()
        for _ in range(0, polls, 100):
            await attack.request(
                "POST", "/queues/polled/jobs/bulk", b'{"jobs":[%s]}' % b",".join([b'{"data":1}'] * 100)
            )
        served = 0

        async def read_http(index: int) -> None:
            nonlocal served
            _, answer = await read_answer(streams[index])
            served += b'"job":{' in answer

        async def read_socket(index: int) -> None:
            nonlocal served
            got = b""
            with trio.move_on_after(30):
                while got.count(b'"job":{') < per_socket:
                    got += bytes(await sockets[index].receive_some(1 << 20))
            served += got.count(b'"job":{')

        with trio.move_on_after(30):
            await spread(streams, read_http)
            await spread(sockets, read_socket)
        attack.notes.append(f"{served:,} of {polls:,} polls served in {trio.current_time() - begun:.1f} s")
        for stream in sockets:
            stream.socket.close()
        attack.check(served == polls, f"{served} of {polls} polls got a job")


# --- more work than can be committed -------------------------------------------------------------------------------


async def _push_flood(attack: Attack, body: bytes, clients: int) -> None:
    end = trio.current_time() + attack.size(15, 3)
    statuses: dict[int, int] = {}
    slowest = 0.0

    async def one() -> None:
        nonlocal slowest
        sent = request_bytes("POST", "/queues/attack/jobs/bulk", body)
        while trio.current_time() < end:
            begun = trio.current_time()
            status = 0
            try:
                stream = await attack.connect()
                async with stream:
                    while trio.current_time() < end:
                        begun = trio.current_time()
                        await stream.send_all(sent)
                        status, _ = await read_answer(stream)
                        if not status:
                            break
                        statuses[status] = statuses.get(status, 0) + 1
                        slowest = max(slowest, trio.current_time() - begun)
                        if status == 503:
                            await trio.sleep(0.05)  # ruder than Retry-After asks for
            except HANG_UPS:
                await trio.sleep(0.05)

    async with trio.open_nursery() as nursery:
        for _ in range(clients):
            nursery.start_soon(one)
    attack.notes.append(
        ", ".join(f"{n} × {status}" for status, n in sorted(statuses.items()))
        + f"; slowest answer {slowest * 1000:.0f} ms"
    )


async def flood_pushes(attack: Attack) -> None:
    """100 clients push 1,000 jobs a request, as fast as they are answered."""
    jobs = b",".join([b'{"data":{"to":"user@test.com"},"ttl":1000}'] * 1000)
    await _push_flood(attack, b'{"jobs":[%s]}' % jobs, attack.size(100, 30))


async def _command_flood(attack: Attack, asked: bytes, in_flight: int, clients: int) -> None:
    end = trio.current_time() + attack.size(15, 3)
    told = {b'"ok":true': 0, b'"ok":false': 0}

    async def one(_: int) -> None:
        stream = await open_websocket(attack)
        await stream.send_all(frame(b'{"cmd":"Unsubscribe"}') + asked * in_flight)
        cut = b""
        while trio.current_time() < end:
            got = bytes(await stream.receive_some(1 << 20))
            if not got:
                break
            got, answers = cut + got, 0
            for answer in told:
                count = got.count(answer)
                told[answer] += count
                answers += count
            cut = got[max(got.rfind(b'"ok"') + 1, len(got) - 12) :]  # an answer that is cut in two by the packets
            await stream.send_all(asked * answers)
        stream.socket.close()

    await spread(range(clients), one, clients)
    attack.notes.append(", ".join(f"{count} × {answer.decode()}" for answer, count in told.items()))


async def flood_frames(attack: Attack) -> None:
    """100 WebSockets push 1,000 jobs a message, eight messages at once."""
    jobs = b",".join([b'{"data":{"to":"user@test.com"},"ttl":1000}'] * 1000)
    await _command_flood(attack, frame(b'{"cmd":"PUSHB","queue":"attack","jobs":[%s]}' % jobs), 8, attack.size(100, 30))


async def flood_commands(attack: Attack) -> None:
    """100 WebSockets push single jobs, 1,000 at once."""
    asked = frame(b'{"cmd":"PUSH","queue":"attack","data":{"to":"user@test.com"},"ttl":1000}')
    await _command_flood(attack, asked, 1000, attack.size(100, 30))


async def slow_disk(attack: Attack) -> None:
    """The same on a disk that takes 20 ms a commit and 100 µs a row."""
    jobs = b",".join([b'{"data":{"to":"user@test.com"},"ttl":1000}'] * 200)
    await _push_flood(attack, b'{"jobs":[%s]}' % jobs, attack.size(200, 60))


async def large_pushes(attack: Attack) -> None:
    """200 clients push jobs of 1 MiB to a disk that takes 20 ms a commit and 10 ms a row."""
    await _push_flood(attack, b'{"jobs":[{"data":"%s","ttl":1000}]}' % (b"a" * MIB), attack.size(200, 40))


def make_certificate(folder: Path) -> dict[str, str]:
    """Return the settings for TLS with a certificate made for the occasion."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True,
    )  # fmt: skip
    return {"TLS_CERT_FILE": str(certificate), "TLS_KEY_FILE": str(key)}


SLOW = {"OVERLOAD_COMMIT_MS": "20", "OVERLOAD_ROW_US": "100"}

SCENARIOS: dict[str, Scenario] = {
    "slow-headers": Scenario(slow_headers, "HEADER_TIMEOUT_S", 150),
    "slow-bodies": Scenario(slow_bodies, "BODY_TIMEOUT_S", 150),
    "idle": Scenario(idle, "KEEP_ALIVE_MS, CONNECTIONS_MAX", 250),
    "descriptors": Scenario(descriptors, "RLIMIT_NOFILE", 50, descriptors=160, refuses=True),
    "flood-connect": Scenario(flood_connect, "BACKLOG", 100),
    "flood-requests": Scenario(flood_requests, "BACKLOG", 50),
    "flood-garbage": Scenario(flood_garbage, "BACKLOG", 250),
    "flood-tls": Scenario(flood_tls, "BACKLOG, HEADER_TIMEOUT_S", 50),
    "unread-answers": Scenario(unread_answers, "BUFFERS_MAX_BYTES", 900),
    "unread-websockets": Scenario(unread_websockets, "BUFFERS_MAX_BYTES", 900, lanes=("express",)),
    "unread-events": Scenario(unread_events, "READER_BYTES_MAX", 900),
    "large-bodies": Scenario(large_bodies, "BUFFERS_MAX_BYTES", 900),
    "too-large": Scenario(too_large, "BODY_MAX_BYTES, HEADER_BYTES_MAX", 400),
    "large-frames": Scenario(large_frames, "BUFFERS_MAX_BYTES", 900),
    "many-queues": Scenario(many_queues, "QUEUES_IDLE_MAX", 900, lanes=("express",)),
    "many-clients": Scenario(many_clients, "RATE_CLIENTS_MAX", 200, {"RATE_LIMIT_MAX_REQUESTS": "100000"}, lanes=("express",)),
    "many-ids": Scenario(many_ids, "RETENTION", 900, lanes=("express",)),
    "many-polls": Scenario(many_polls, "POLLERS_MAX", 300, lanes=("express",)),
    "flood-pushes": Scenario(flood_pushes, "PENDING_MAX", 600, refuses=True, lanes=("express",)),
    "flood-frames": Scenario(flood_frames, "PENDING_MAX", 600, refuses=True, lanes=("express",)),
    "flood-commands": Scenario(flood_commands, "SESSION_REPLIES_MAX", 600, refuses=True, lanes=("express",)),
    "slow-disk": Scenario(slow_disk, "PENDING_MAX", 300, SLOW, refuses=True, lanes=("express",)),
    "large-pushes": Scenario(
        large_pushes, "PENDING_MAX_BYTES", 900, SLOW | {"OVERLOAD_ROW_US": "10000"}, refuses=True, lanes=("express",)
    ),
    "dependencies": Scenario(dependencies, "DEPENDENCIES_MAX", 300, refuses=True, lanes=("express",)),
    "dependents": Scenario(dependents, "ADVANCE_MAX", 600, lanes=("express",)),
    "priorities": Scenario(priorities, "what is empty is swept", 150, lanes=("express",)),
    "probes": Scenario(probes, "METRICS_QUEUES_MAX", 200, lanes=("express",)),
    "ack-batches": Scenario(ack_batches, "BATCH_MAX", 300, refuses=True, lanes=("express",)),
    "push-batches": Scenario(push_batches, "BATCH_MAX, PENDING_MAX", 600, refuses=True, lanes=("express",)),
    "release": Scenario(release, "ADVANCE_MAX", 200, lanes=("express",)),
    "replays": Scenario(replays, "REPLAY_EVENTS", 900, lanes=("express",)),
    "retention": Scenario(retention, "PRUNE_ROWS", 300, {"RETENTION_COMPLETED_MAX": "100", "RETENTION_EVENTS_MAX": "400"}, lanes=("express",)),
    "large-pulls": Scenario(large_pulls, "PULL_BATCH_BYTES, BUFFERS_MAX_BYTES", 900, {"STALLS_MAX": "1000"}, lanes=("express",)),
    "log-flood": Scenario(log_flood, "nothing a client sends is logged", 150, {"LOG_LEVEL": "info"}, lanes=("express",)),
}  # fmt: skip
