"""Requests in frames: the leader answers them as its own, whoever cuts, stalls or dies. In virtual time, without sockets."""

import itertools
import json
from random import Random
from typing import Any

import pytest
import trio
import trio.testing

from bunqueue_trio.config import (
    PIECES_S,
    RECEIVE_BYTES,
)
from bunqueue_trio.doors.lane import FramingDoor
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.tree import serve
from bunqueue_trio.storage.memory import MemoryStore
from bunqueue_trio.transports.listener import Http
from tests.doors.framed_world import POLL, PULL, PUSH, Clocked, World, ask, ended, nothing, response
from tests.doors.framed_world import world as world
from tests.stream.stream_world import Sockless
from tests.wire.raw import request_bytes

pytestmark = pytest.mark.thorough

LIVE = request_bytes("GET", "/live")


# --- what clients see -----------------------------------------------------------------------------


async def test_a_job_goes_its_way_through_a_door(world: World, autojump_clock: Clocked):
    client = world.connect(await world.door())
    status, pushed = await ask(client, PUSH)
    assert (status, pushed["ok"]) == (200, True)
    _, pulled = await ask(client, PULL)
    assert pulled["job"]["id"] == pushed["id"]
    body = json.dumps({"token": pulled["token"]}).encode()
    assert await ask(client, request_bytes("POST", f"/jobs/{pushed['id']}/ack", body)) == (200, {"ok": True})
    assert (await ask(client, request_bytes("POST", "/queues/q/jobs", b"{")))[0] == 400
    await client.send_all(PUSH + PULL + PUSH)
    assert [(await response(client))[0] for _ in range(3)] == [200, 200, 200]
    assert world.spliced() == 0
    assert world.counts() == (1, 1)
    assert world.server.doors.requests == 0


async def test_who_waits_at_one_door_is_woken_through_another_first_come_first_served(
    world: World, autojump_clock: Clocked
):
    doors = [await world.door(), await world.door()]
    waiting = []
    for n in range(4):
        waiting.append(world.connect(doors[n % 2]))
        await waiting[-1].send_all(POLL)
        await trio.testing.wait_all_tasks_blocked()
    assert world.server.core.pulls_waiting == world.server.doors.requests == 4
    for client in waiting:
        pushed = (await ask(world.connect(doors[0]), PUSH))[1]["id"]
        assert (await response(client))[1]["job"]["id"] == pushed
    begun = trio.current_time()
    empty = await ask(world.connect(doors[1]), POLL)
    assert empty == (200, {"ok": True, "job": None, "token": None})
    assert trio.current_time() - begun == pytest.approx(60, abs=0.1)


@pytest.mark.parametrize(
    "request_",
    [
        LIVE,
        request_bytes("GET", "/events"),
        b"GET /queues/q/jobs HTTP/1.0\r\nHost: x\r\n\r\n",
        b"GARBAGE\r\n\r\n",
        b'POST /queues/q/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\na\r\n{"data":1}\r\n0\r\n\r\n',
        b'POST /queues/q/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nContent-Length: 10\r\n\r\n{"data":1}',
        request_bytes("POST", "/queues/q/jobs", b'{"data":"' + b"x" * RECEIVE_BYTES + b'"}'),
        b"GET /queues/q/jobs HTTP/1.1\r\nHost: x\r\nx: " + b"x" * 66_000 + b"\r\n\r\n",
        b"GET /queues/q/jobs HTTP/1.1\r\nHost: x\r\nx: " + b"x" * 100_000 + b"\r\n\r\n",
    ],
    ids=lambda request: request[:30].decode("latin-1"),
)
async def test_what_is_none_for_frames_is_passed_on_whole(world: World, autojump_clock: Clocked, request_: bytes):
    door = await world.door()
    other = world.connect(door)
    await other.send_all(POLL.replace(b"/q/", b"/p/"))
    client = world.connect(door)
    assert (await ask(client, PUSH))[0] == 200
    for at in range(0, len(request_), 30_000):
        await client.send_all(request_[at : at + 30_000])
    assert await client.receive_some(9) == b"HTTP/1.1 "
    assert world.spliced() == 1
    assert world.server.doors.requests == 1, "and nobody else is disturbed"


CHUNKED = b'POST /queues/q/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\na\r\n{"data":1}\r\n0\r\n\r\n'

KINDS = [
    PUSH, PUSH, PUSH, PULL, PULL, LIVE, CHUNKED, request_bytes("POST", "/queues/q/jobs", b"{"), request_bytes("GET", "/no"),
    request_bytes("DELETE", "/jobs/nobody"), request_bytes("POST", "/queues/q/jobs", b'{"data":"' + b"x" * 70_000 + b'"}'),
]  # fmt: skip


@pytest.mark.parametrize("seed", range(40))
async def test_requests_in_any_pieces_are_answered_as_without_a_door(
    world: World, nursery: trio.Nursery, autojump_clock: Clocked, seed: int
):
    random = Random(seed)
    requests = random.choices(KINDS, k=random.randrange(1, 8))
    data = b"".join(requests)
    cuts = sorted(random.randrange(len(data)) for _ in range(random.randrange(6)))
    pieces = [(data[a:b], random.choice([0, 0, 0.3, 2])) for a, b in itertools.pairwise([0, *cuts, len(data)])]

    async def answers(client: Any) -> list[int]:
        statuses: list[int] = []

        async def send() -> None:
            for piece, pause in pieces:
                await client.send_all(piece)
                await trio.sleep(pause)

        async with trio.open_nursery() as sending:
            sending.start_soon(send)
            for _ in requests:
                statuses.append((await response(client))[0])  # noqa: PERF401 - a nursery is no place to return from
        return statuses

    through = await answers(world.connect(await world.door()))
    server = Server(world.settings, MemoryStore(), Clock(1_700_000_000_000))
    await nursery.start(serve, server, [nothing])
    ours, its = trio.testing.memory_stream_pair()
    its.socket = Sockless()  # type: ignore[attr-defined]
    nursery.start_soon(Http(server, nursery, express=True).serve, its)
    assert through == await answers(ours)
    await trio.testing.wait_all_tasks_blocked()
    jobs = server.counts()
    assert world.counts() == (jobs["waiting"], jobs["active"])


async def test_pieces_are_waited_for_a_moment(world: World, autojump_clock: Clocked):
    client = world.connect(await world.door())
    for at in (5, 40, len(PUSH) - 3):
        await client.send_all(PUSH[:at])
        await trio.sleep(PIECES_S / 2)
        assert (await ask(client, PUSH[at:]))[0] == 200
    assert world.spliced() == 0
    for byte in PUSH[:20]:
        await client.send_all(bytes([byte]))
        await trio.sleep(PIECES_S / 5)
    await client.send_all(PUSH[20:40])
    assert world.spliced() == 1, "the leader says how long it may take"
    assert (await ask(client, PUSH[40:]))[0] == 200
    assert world.counts() == (4, 0)


async def test_a_silent_connection_ends_after_its_time(world: World, autojump_clock: Clocked):
    client = world.connect(await world.door())
    assert (await ask(client, PUSH))[0] == 200
    begun = trio.current_time()
    assert await ended(client)
    assert trio.current_time() - begun == pytest.approx(world.settings.keep_alive_ms / 1000, abs=3)


async def test_a_door_that_has_asked_for_too_much_refuses_itself(
    world: World, autojump_clock: Clocked, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bunqueue_trio.doors.asking.ASKED_MAX", 1)
    door = FramingDoor(world, world.settings)  # nobody answers yet
    first, second = world.connect(door), world.connect(door)
    await first.send_all(PUSH)
    await trio.testing.wait_all_tasks_blocked()
    status, told = await ask(second, PUSH)
    assert (status, told["code"]) == (503, "overloaded")
    assert await ended(second)
    world.nursery.start_soon(door.run)
    assert (await response(first))[0] == 200
    assert world.counts() == (1, 0)


async def test_a_door_holds_only_so_much_of_requests(
    world: World, autojump_clock: Clocked, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bunqueue_trio.doors.asking.ASKED_MAX_BYTES", len(PUSH))
    door = await world.door()
    client = world.connect(door)
    for _ in range(5):
        assert (await ask(client, PUSH))[0] == 200
    assert (await ask(client, request_bytes("POST", "/queues/q/jobs", b'{"data":12}')))[0] == 503


async def test_who_waits_for_a_job_is_no_load(world: World, autojump_clock: Clocked, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bunqueue_trio.doors.asking.ASKED_MAX", 1)
    monkeypatch.setattr("bunqueue_trio.doors.asking.ASKED_MAX_BYTES", len(POLL))
    door = await world.door()
    waiting = [world.connect(door) for _ in range(3)]
    for client in waiting:
        await client.send_all(POLL)
        await trio.testing.wait_all_tasks_blocked()
    assert world.server.core.pulls_waiting == 3
    for client in waiting:
        assert (await ask(world.connect(door), PUSH))[0] == 200
        assert (await response(client))[1]["job"]
    assert (await ask(world.connect(door), POLL[: len(POLL) - 2] + b"x: y\r\n\r\n"))[0] == 503
