"""A door that is full, and one that stops: who makes room, who is refused, and whose request is still answered. In virtual time."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing

from bunqueue_trio.config import LINK_HANDSHAKE_S, LINK_HANDSHAKES_MAX, ROOM_IDLE_S, Settings
from bunqueue_trio.doors.handshake import prove_door
from bunqueue_trio.doors.lane import FramingDoor
from bunqueue_trio.doors.refusals import Refusals
from bunqueue_trio.doors.remote import RemoteDoors
from bunqueue_trio.errors import TOO_MANY_CONNECTIONS
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.tree import serve
from bunqueue_trio.storage.memory import MemoryStore
from tests.doors.test_frames import LIVE, POLL, PULL, PUSH, Clocked, World, ended, nothing, response
from tests.wire.raw import request_bytes

LIMIT = 3


@pytest.fixture
async def world(nursery: trio.Nursery) -> AsyncIterator[World]:
    settings = Settings(connections_max=LIMIT)
    server = Server(settings, MemoryStore(), Clock(1_700_000_000_000))
    await nursery.start(serve, server, [nothing])
    yield World(server, nursery, settings)
    nursery.cancel_scope.cancel()


async def head_and_body(stream: trio.abc.Stream) -> tuple[str, Any]:
    """Read one response."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = bytes(await stream.receive_some(1))
        assert more, data
        data += more
    length = int(data.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    body = b""
    while len(body) < length:
        body += bytes(await stream.receive_some(length - len(body)))
    text = body.decode()
    return data.decode(), json.loads(text) if text.startswith("{") else text


async def fill(world: World, door: FramingDoor, request: bytes) -> list[Any]:
    clients = [world.connect(door) for _ in range(LIMIT)]
    for client in clients:
        await client.send_all(request)
        assert (await response(client))[0] == 200
    return clients


async def status(world: World, door: FramingDoor) -> int:
    """What another client gets."""
    client = world.connect(door)
    await client.send_all(PULL)
    return (await response(client))[0]


@pytest.mark.parametrize("request_", [PULL, LIVE], ids=["in frames", "passed on as they are"])
async def test_at_the_limit_who_is_idle_longest_makes_room(world: World, autojump_clock: Clocked, request_: bytes):
    door = await world.door()
    clients = await fill(world, door, request_)
    assert await status(world, door) == 503, "all were busy just now"
    await trio.sleep(ROOM_IDLE_S + 1)
    assert await status(world, door) == 200
    assert await ended(clients[0])
    assert door.connections <= LIMIT + 1


async def test_who_never_said_anything_makes_room(world: World, autojump_clock: Clocked):
    door = await world.door()
    silent = [world.connect(door) for _ in range(LIMIT)]
    await trio.sleep(ROOM_IDLE_S + 1)
    assert await status(world, door) == 200
    assert await ended(silent[0])


async def test_only_connections_of_a_door_that_is_full_make_room(world: World, autojump_clock: Clocked):
    full, other = await world.door(), await world.door()
    others = await fill(world, other, LIVE)
    for spliced in world.http._connections:
        spliced.door = other
    for _ in range(LIMIT):
        await world.connect(full).send_all(POLL)
    await trio.sleep(ROOM_IDLE_S + 1)
    assert await status(world, full) == 503
    await others[0].send_all(LIVE)
    assert (await response(others[0]))[0] == 200


async def test_a_page_of_another_origin_may_read_what_a_door_refuses(world: World, autojump_clock: Clocked):
    door = await world.door()
    for _ in range(LIMIT):
        await world.connect(door).send_all(POLL)
    await trio.testing.wait_all_tasks_blocked()
    head, told = await head_and_body(world.connect(door))
    assert told["code"] == "too-many-connections"
    assert "\r\nAccess-Control-Allow-Origin: *\r\n" in head
    one = Refusals(Settings(cors_allow_origin=("https://a.example",))).of(TOO_MANY_CONNECTIONS)
    assert b"Access-Control-Allow-Origin: https://a.example\r\n" in one


# --- who stops ------------------------------------------------------------------------------------


async def stop(world: World, door: FramingDoor) -> trio.Event:
    """Let a door stop; what is returned is for a hurry."""
    hurry = trio.Event()
    door.asking.stop()
    await trio.testing.wait_all_tasks_blocked()
    world.nursery.start_soon(door.end, hurry)
    return hurry


async def test_a_door_that_stops_answers_all_that_it_has_and_says_that_it_ends(world: World, autojump_clock: Clocked):
    door = await world.door()
    busy, waiting, idle = [world.connect(door) for _ in range(3)]
    for client in (busy, idle):
        await client.send_all(PULL)
        assert "connection: close" not in (await head_and_body(client))[0].lower()
    await waiting.send_all(POLL)
    begun = trio.current_time()
    await stop(world, door)
    await busy.send_all(PUSH)
    for client in (busy, waiting):
        head, told = await head_and_body(client)
        assert told["ok"]
        assert "connection: close" in head.lower()
        assert await ended(client)
    assert await ended(idle)
    assert ROOM_IDLE_S <= trio.current_time() - begun < ROOM_IDLE_S + 10
    assert door.connections == 0


async def test_in_a_hurry_who_is_idle_ends_at_once(world: World, autojump_clock: Clocked):
    door = await world.door()
    client = world.connect(door)
    await client.send_all(PULL)
    await head_and_body(client)
    begun = trio.current_time()
    (await stop(world, door)).set()
    assert await ended(client)
    assert trio.current_time() - begun < ROOM_IDLE_S


async def test_what_is_none_for_frames_is_passed_on_while_a_door_stops(world: World, autojump_clock: Clocked):
    door = await world.door()
    client = world.connect(door)
    await trio.testing.wait_all_tasks_blocked()
    await stop(world, door)
    await client.send_all(LIVE)
    assert (await response(client))[0] == 200


async def test_the_next_stream_of_a_door_that_stops_learns_of_it(world: World, autojump_clock: Clocked):
    door = await world.door()
    waiting, busy = world.connect(door), world.connect(door)
    await trio.testing.wait_all_tasks_blocked()
    await stop(world, door)
    await world.opened[0][1].aclose()
    await trio.sleep(1)
    await busy.send_all(PUSH)
    assert "connection: close" in (await head_and_body(busy))[0].lower()
    assert await ended(waiting)


# --- who hangs up ---------------------------------------------------------------------------------


async def test_who_hangs_up_at_a_door_waits_no_longer_at_once(world: World, autojump_clock: Clocked):
    door = await world.door()
    gone, next_ = world.connect(door), world.connect(door)
    for client in (gone, next_):
        await client.send_all(POLL)
        await trio.testing.wait_all_tasks_blocked()
    begun = trio.current_time()
    await gone.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert world.server.core.pulls_waiting == 1
    assert trio.current_time() == begun
    client = world.connect(door)
    await client.send_all(PUSH)
    pushed = (await response(client))[1]["id"]
    assert (await response(next_))[1]["job"]["id"] == pushed
    assert world.counts() == (0, 1)


async def test_what_a_waiting_client_sends_early_is_answered_next(world: World, autojump_clock: Clocked):
    door = await world.door()
    client = world.connect(door)
    await client.send_all(POLL)
    await trio.testing.wait_all_tasks_blocked()
    await client.send_all(PUSH)
    assert (await response(client))[1]["job"] is None
    assert (await response(client))[1]["ok"]
    assert world.counts() == (1, 0)


# --- strangers at the link ------------------------------------------------------------------------


async def test_strangers_at_the_link_make_room_for_a_door(world: World, autojump_clock: Clocked):
    doors = RemoteDoors(world.server, [], b"k" * 32)
    strangers = []
    for _ in range(2 * LINK_HANDSHAKES_MAX):
        mine, its = trio.testing.memory_stream_pair()
        strangers.append(mine)
        world.nursery.start_soon(doors.greet, its)
    await trio.testing.wait_all_tasks_blocked()
    assert len(doors._greeting) == LINK_HANDSHAKES_MAX, "each is a descriptor"
    mine, its = trio.testing.memory_stream_pair()
    told: list[str | None] = []

    async def greet() -> None:
        told.append(await doors.greet(its))

    begun = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(greet)
        await prove_door(mine, b"k" * 32, "10.0.0.1")
    assert told == ["10.0.0.1"]
    assert trio.current_time() == begun
    await trio.sleep(LINK_HANDSHAKE_S + 1)
    assert not doors._greeting
    for stranger in strangers:
        assert await ended(stranger)


async def test_a_request_in_pieces_is_the_leaders_when_many_are(world: World, autojump_clock: Clocked):
    door = await world.door()
    hold = door._buffers.hold()
    hold.add(door._buffers._limit)
    client = world.connect(door)
    request = request_bytes("POST", "/queues/q/jobs", b'{"data":1}')
    for byte in request:
        await client.send_all(bytes([byte]))
        await trio.testing.wait_all_tasks_blocked()
    assert (await response(client))[0] == 200
    assert world.spliced() == 1
