"""The attacks, each a function, and the table of all: here are those with many names, and more work than can be committed."""

import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import trio

from trials.overload.connections import (
    asked_ahead,
    asked_ahead_slowly,
    descriptors,
    flood_connect,
    flood_garbage,
    flood_requests,
    flood_tls,
    idle,
    large_bodies,
    large_frames,
    slow_bodies,
    slow_headers,
    too_large,
    unread_answers,
    unread_events,
    unread_websockets,
)
from trials.overload.crowd import (
    MIB,
    Attack,
    frame,
    open_websocket,
    pipelined,
    read_answer,
    repeat,
    request_bytes,
    spread,
    told,
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
    too_many,
)

PUSH = request_bytes("POST", "/queues/attack/jobs", b'{"data":1}')


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
    """The good client may be answered with 503: at once, which counts as an answer."""

    @property
    def runs_under_asgi(self) -> bool:
        """Whether plain Hypercorn promises it: it has no limit of descriptors, and its TLS is not ours."""
        return "hypercorn" in self.lanes and self.run not in {descriptors, flood_tls}

    @property
    def about(self) -> str:
        """What it does, in a sentence."""
        return (self.run.__doc__ or "").split("\n", 1)[0]


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
    """10,000 waiting pulls wait, half over HTTP, half over WebSocket; then each gets a job."""
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
    sent = request_bytes("POST", "/queues/attack/jobs/bulk", body)
    statuses, slowest = await repeat(attack, [sent], clients, attack.size(15, 3))
    attack.notes.append(f"{told(statuses)}; slowest answer {slowest * 1000:.0f} ms")


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
    "ahead": Scenario(asked_ahead, "COMMANDS_A_ROUND, PAGES_A_ROUND, ACCEPTS_MAX", 200, lanes=("express",)),
    "ahead-slowly": Scenario(asked_ahead_slowly, "PAGES_A_ROUND, ACCEPTS_MAX", 300, lanes=("express",)),
    "probes": Scenario(probes, "METRICS_QUEUES_MAX", 200, lanes=("express",)),
    "ack-batches": Scenario(ack_batches, "BATCH_MAX", 300, refuses=True, lanes=("express",)),
    "too-many": Scenario(too_many, "BATCH_MAX, BODY_MAX_BYTES", 300, refuses=True, lanes=("express",)),
    "push-batches": Scenario(push_batches, "BATCH_MAX, PENDING_MAX", 600, refuses=True, lanes=("express",)),
    "release": Scenario(release, "ADVANCE_MAX", 200, lanes=("express",)),
    "replays": Scenario(replays, "REPLAY_EVENTS", 900, lanes=("express",)),
    "retention": Scenario(retention, "PRUNE_ROWS", 300, {"RETENTION_COMPLETED_MAX": "100", "RETENTION_EVENTS_MAX": "400"}, lanes=("express",)),
    "large-pulls": Scenario(large_pulls, "PULL_BATCH_BYTES, BUFFERS_MAX_BYTES", 900, {"STALLS_MAX": "1000"}, lanes=("express",)),
    "log-flood": Scenario(log_flood, "nothing a client sends is logged", 150, {"LOG_LEVEL": "info"}, lanes=("express",)),
}  # fmt: skip
