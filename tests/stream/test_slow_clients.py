"""Clients that take no answer, answer no ping or leave something behind, in virtual time."""

import gc
import json
import ssl
import weakref
from contextlib import suppress
from typing import Any

import pytest
import trio
import trio.testing

from bunqueue_trio.api.session import Session
from bunqueue_trio.config import (
    LARGE_BODY_BYTES,
    LINGER_S,
    LINGERING_MAX,
    PING_S,
    PINGS_MISSED_MAX,
    WRITE_TIMEOUT_S,
)
from bunqueue_trio.transports.tls import TlsStream
from tests.stream.stream_world import Sockless, World
from tests.stream.stream_world import world as world
from tests.stream.ws import HANDSHAKE, TEXT, frame
from tests.wire.raw import request_bytes

# --- connections ----------------------------------------------------------------------------------


async def test_a_client_that_takes_no_answer_is_ended_within_the_write_timeout(world: World) -> None:
    """Of a plain request and of a stream; a push by somebody else goes on meanwhile."""
    for target in ("/healthz", "/events"):
        client = await world.connect()
        await client.send_all(request_bytes("GET", target))
        await trio.testing.wait_all_tasks_blocked()
        assert len(world.http._connections) == 1
        with world.session("x") as session:
            assert (await world.ask(session, "PUSH", queue="q", data=1))["ok"] is True
        await trio.sleep(WRITE_TIMEOUT_S + 5)
        assert not world.http._connections, target
        await trio.aclose_forcefully(client)
    assert world.server.connections.sse == 0


async def test_a_peer_that_answers_no_ping_is_gone_and_its_jobs_go_back(world: World) -> None:
    client = await world.connect()
    begun = trio.current_time()
    await client.send_all(HANDSHAKE.format(path="/ws").encode())
    heard = bytearray()
    with trio.move_on_after(PING_S * (PINGS_MISSED_MAX + 1) + 5) as patience:
        while data := await client.receive_some():
            heard += data
    assert not patience.cancelled_caught
    assert heard.count(b"\x89\x00") == PINGS_MISSED_MAX + 1
    assert trio.current_time() - begun == pytest.approx(PING_S * (PINGS_MISSED_MAX + 1), abs=2)
    await trio.testing.wait_all_tasks_blocked()
    assert world.server.connections.ws == 0


async def test_a_peer_that_reads_a_trickle_of_a_message_is_ended(world: World) -> None:
    """Each 64 KiB of it have their time; what is read of them now and then gives no more."""
    with world.session("x") as session:
        pushed = await world.ask(session, "PUSH", queue="q", data="x" * 1_000_000)
    client = await world.connect()
    await client.send_all(HANDSHAKE.format(path="/ws/queues/none").encode())
    assert b" 101 " in await client.receive_some()
    command = json.dumps({"cmd": "GetJob", "id": pushed["id"]}).encode()
    begun = trio.current_time()
    await client.send_all(frame(TEXT, command))
    while world.server.connections.ws and trio.current_time() < begun + 5 * WRITE_TIMEOUT_S:
        await client.receive_some(1000)
        await trio.sleep(5)
    assert trio.current_time() - begun == pytest.approx(WRITE_TIMEOUT_S, abs=10)


async def _refused(world: World) -> float:
    """Send garbage, read the answer to its end, and return how long that took; the client does not close."""
    client = await world.connect()
    begun = trio.current_time()
    await client.send_all(b"\xff garbage\r\n\r\n")
    answer = b""
    with suppress(trio.BrokenResourceError):
        while data := await client.receive_some():
            answer += bytes(data)
    assert answer.startswith(b"HTTP/1.1 400 ")
    return trio.current_time() - begun


async def test_refused_connections_that_stay_are_closed_at_once_if_there_are_many(world: World) -> None:
    assert await _refused(world) == pytest.approx(LINGER_S)
    world.http._goodbyes.lingering[LINGERING_MAX] = LINGERING_MAX
    assert await _refused(world) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "objects"),
    [
        (b"\xff garbage\r\n\r\n", 0),
        (b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 0),
        # What Werkzeug's router leaves behind.
        (b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 10),
    ],
    ids=["garbage", "express", "hypercorn"],
)
async def test_a_connection_leaves_next_to_nothing_for_the_garbage_collector(
    world: World, sent: bytes, objects: int
) -> None:
    """A full collection is rare, and a flood of connections that wait for it takes all memory."""

    async def connect() -> None:
        client = await world.connect()
        await client.send_all(sent)
        assert (await client.receive_some()).startswith(b"HTTP/1.1 ")
        await trio.aclose_forcefully(client)
        await trio.testing.wait_all_tasks_blocked()

    for _ in range(3):
        await connect()
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            await connect()
        assert gc.collect() <= 20 * objects
    finally:
        gc.enable()


@pytest.mark.parametrize("express", [True, False], ids=["express", "hypercorn"])
@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\xc8"], ids=["no-tls", "half-a-hello"])
async def test_a_failed_handshake_does_not_wait_for_the_garbage_collector(
    world: World, sent: bytes, express: bool
) -> None:
    """It would keep OpenSSL's buffers, tens of KiB that the collector does not count."""
    world.http._express = express
    client, theirs = trio.testing.memory_stream_pair()
    theirs.socket = Sockless()  # type: ignore[attr-defined]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    encrypted = TlsStream(theirs, context, server_side=True)
    ended = weakref.ref(encrypted)
    world.nursery.start_soon(world.http.serve, encrypted)
    del encrypted
    gc.disable()
    try:
        await client.send_all(sent)
        await trio.testing.wait_all_tasks_blocked()
        await trio.aclose_forcefully(client)
        await trio.testing.wait_all_tasks_blocked()
        assert ended() is None
    finally:
        gc.enable()


async def test_the_keeper_lets_go_of_what_it_has_ended(world: World) -> None:
    client = await world.connect()
    await trio.testing.wait_all_tasks_blocked()
    (connection,) = world.http._connections
    ended = weakref.ref(connection)
    await trio.sleep(80)
    assert not world.http._connections
    del connection
    gc.collect()
    assert ended() is None
    await trio.aclose_forcefully(client)


async def test_what_a_library_asserts_in_a_connection_ends_that_connection_alone(
    world: World, monkeypatch: pytest.MonkeyPatch, logs: list[dict[str, Any]]
) -> None:
    """Only the broken invariants of the engine and the journal end the process."""

    def broken(*_: object) -> None:
        raise AssertionError("planted in a parser")

    with monkeypatch.context() as patch:
        patch.setattr(world.http.shared.requests, "parse", broken)
        client = await world.connect()
        await client.send_all(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await client.receive_some() == b""
    assert not world.server.core.broken.is_set()
    client = await world.connect()
    await client.send_all(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await client.receive_some()).startswith(b"HTTP/1.1 200 OK")


class Rounds(trio.abc.Instrument):
    """Counts the rounds in which all tasks that are ready run once."""

    def __init__(self) -> None:
        self.begun = 0

    def before_io_wait(self, timeout: float) -> None:
        self.begun += 1


async def test_one_large_request_is_worked_on_in_a_round(world: World) -> None:
    """An ack of 10,000 jobs takes 0.05 s; so would each of twenty before a small request had its turn."""
    padded = b'{"ids":[]' + b" " * LARGE_BODY_BYTES + b"}"
    rounds = Rounds()
    answered: list[int] = []

    async def ask(session: Session | None) -> None:
        if session is None:
            call = world.gateway.resolve("POST", "/jobs/ack-batch", {})
            assert (await world.gateway.respond(call, padded)).status == 200
        else:
            await session.wait_turn(padded)
        answered.append(rounds.begun)

    with world.session() as session:
        trio.lowlevel.add_instrument(rounds)
        async with trio.open_nursery() as askers:
            for peer in (None, session, None, session, None):
                askers.start_soon(ask, peer)
    assert len(answered) == 5
    assert len(set(answered)) == 5
