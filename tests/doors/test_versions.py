"""Doors and leaders of both versions of the frames: what they say to each other, and that clients see the same bytes."""

import re
from typing import Any

import pytest
import trio
import trio.testing

from bunqueue_trio.config import HEADS_KEPT, RECEIVE_BYTES, Settings
from bunqueue_trio.doors.asking import Asking
from bunqueue_trio.doors.frames import (
    ANSWER,
    ASK,
    ASKS_MAX,
    CALL,
    HEAD,
    HERE,
    LOOK,
    MANY,
    SHAPE,
    SHAPE_BITS,
    SPLICE,
    VERSION,
    Said,
    Unpacker,
    pack,
    pack_all,
)
from bunqueue_trio.doors.refusals import Refusals
from bunqueue_trio.protocol.again import repeatable
from bunqueue_trio.runtime.budget import Budget
from tests.doors.framed_world import PUSH, Clocked, Raw, World, ask
from tests.doors.framed_world import world as world
from tests.wire.raw import request_bytes

HEAD_END = PUSH.index(b"\r\n\r\n") + 4
BODY = PUSH[HEAD_END:]


async def settled() -> None:
    await trio.testing.wait_all_tasks_blocked()


# --- a door ----------------------------------------------------------------------------------------


class Leader:
    """Leaders, one after the other, that understand both versions."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.stream: Any = None
        self.asking = Asking(
            self.connect, memoryview(bytearray(RECEIVE_BYTES)), Budget(1 << 20), Refusals(Settings()), repeatable
        )
        nursery.start_soon(self.asking.run)

    async def connect(self) -> Any:
        self.stream, its = trio.testing.memory_stream_pair()
        return its

    async def hear(self) -> list[Said]:
        await settled()
        return [tuple(each) for each in Unpacker(ASKS_MAX).feed(bytes(await self.stream.receive_some()))]  # type: ignore[misc]

    async def say(self, *messages: Said, version: int = VERSION) -> None:
        await self.stream.send_all(pack_all(messages, version))
        await settled()

    async def understand(self) -> None:
        assert await self.hear() == [(0, HERE, VERSION, b"", "")]
        await self.say((0, LOOK, VERSION, b"", ""), version=1)
        assert await self.hear() == [(0, HERE, 0, b"", "")]


@pytest.fixture
async def leader(nursery: trio.Nursery) -> Any:
    made = Leader(nursery)
    await settled()
    yield made
    nursery.cancel_scope.cancel()


async def test_a_head_is_said_once_and_is_a_number_then(leader: Leader):
    await leader.understand()
    for number in (1, 2):
        leader.asking.ask(number, "a.b", PUSH, HEAD_END)
    assert await leader.hear() == [
        (0, HEAD, 0, PUSH[:HEAD_END], ""),
        (1, CALL, 0, BODY, "a.b"),
        (2, CALL, 0, BODY, "a.b"),
    ]
    leader.asking.ask(3, "a.b", PUSH)
    assert await leader.hear() == [(3, ASK, 3, b"a.b" + PUSH, "")], "it may never come again"


async def test_a_leader_of_the_first_version_is_asked_whole_requests(leader: Leader):
    await leader.hear()
    await leader.say((0, LOOK, 0, b"", ""), version=1)
    await leader.hear()
    asked = leader.asking.ask(1, "a.b", PUSH, HEAD_END)
    assert await leader.hear() == [(1, ASK, 3, b"a.b" + PUSH, "")]
    await leader.say((1, ANSWER, 0, b"HTTP/1.1 200 OK", ""), version=1)
    assert asked.answer == b"HTTP/1.1 200 OK"


async def test_the_next_leader_hears_all_anew_and_is_not_taken_for_the_last(leader: Leader, autojump_clock: Clocked):
    await leader.understand()
    get = request_bytes("GET", "/stats")
    asked = leader.asking.ask(1, "a.b", get, len(get))
    assert [kind for _, kind, _, _, _ in await leader.hear()] == [HEAD, CALL]
    await leader.stream.aclose()
    await trio.sleep(1)
    assert await leader.hear() == [(0, HERE, VERSION, b"", ""), (1, ASK, 3, b"a.b" + get, "")]
    await leader.say((0, LOOK, VERSION, b"", ""), version=1)
    leader.asking.ask(2, "a.b", get, len(get))
    assert await leader.hear() == [(0, HERE, 0, b"", ""), (0, HEAD, 0, get, ""), (2, CALL, 0, b"", "a.b")]
    await leader.say((7, SHAPE, 0, b"HTTP/1.1 200 OK\r\nx: y\r\n", ""), (1, ANSWER, 7 << SHAPE_BITS, b"{}", ""))
    head, _, body = asked.answer.partition(b"\r\n\r\n")
    assert body == b"{}"
    assert re.fullmatch(rb"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx: y\r\ndate: .* GMT", head)


async def test_of_many_heads_the_numbers_begin_anew(leader: Leader):
    await leader.understand()
    for n in range(HEADS_KEPT + 1):
        leader.asking.ask(n, "", request := request_bytes("GET", f"/queues/{n}/counts"), len(request))
    said: list[Said] = []
    while len(said) < 2 * (HEADS_KEPT + 1):
        said += await leader.hear()
    assert said[-2:] == [(0, HEAD, 0, request, ""), (HEADS_KEPT, CALL, 0, b"", "")]


@pytest.mark.parametrize(
    "said",
    [pack(1, ANSWER, 3 << SHAPE_BITS), pack(0, MANY, 0, b"\xc1"), pack(0, MANY, 0, b"\x91\x91\x01"), pack(1, 99)],
)
async def test_a_leader_that_says_what_cannot_be_is_left(leader: Leader, autojump_clock: Clocked, said: bytes):
    await leader.understand()
    asked, stream = leader.asking.ask(1, "", PUSH, HEAD_END), leader.stream
    await leader.hear()
    await stream.send_all(said)
    await trio.sleep(1)
    assert b"not-committed" in asked.answer
    assert leader.stream is not stream


# --- a leader --------------------------------------------------------------------------------------


async def newer(world: World) -> Raw:
    door = Raw(world)
    await door.stream.send_all(pack(0, HERE, VERSION))
    assert await door.hear() == (0, LOOK, VERSION, b"", "")
    return door


async def test_a_door_of_the_second_version_hears_bodies_only(world: World):
    door = await newer(world)
    await door.stream.send_all(
        pack_all([(4, HEAD, 0, PUSH[:HEAD_END], ""), *((n, CALL, 4, BODY, "a.b") for n in (1, 2))], VERSION)
    )
    _, kind, _, shape, _ = await door.hear()
    assert (kind, shape[:17]) == (SHAPE, b"HTTP/1.1 200 OK\r\n")
    for n in (1, 2):
        number, kind, extra, body, _ = await door.hear()
        assert (number, kind, extra >> SHAPE_BITS) == (n, ANSWER, 1)
        assert body.startswith(b'{"ok":true')
    assert world.counts() == (2, 0)
    await settled()
    assert world.server.doors.requests == 0


async def test_a_door_of_the_first_version_hears_whole_responses(world: World):
    door = Raw(world)
    await door.say(1, ASK, PUSH)
    heard = await door.hear()
    assert heard.kind == ANSWER
    assert heard.data.startswith(b"HTTP/1.1 200 OK\r\ncontent-length")


async def test_a_body_of_another_length_is_no_request_for_frames(world: World):
    door = await newer(world)
    await door.stream.send_all(pack_all([(0, HEAD, 0, PUSH[:HEAD_END], ""), (1, CALL, 0, BODY + b" ", "a.b")], VERSION))
    assert (await door.hear()).kind == SPLICE
    assert world.counts() == (0, 0)


@pytest.mark.parametrize(
    "said",
    [pack(1, CALL, 5), pack(0, MANY, 0, b"\xc1"), pack(HEADS_KEPT, HEAD, 0, PUSH), pack_all([(0, 77, 0, b"", "")], 2)],
)
async def test_a_door_that_calls_what_it_has_not_said_is_left(world: World, said: bytes):
    door = await newer(world)
    await door.stream.send_all(said)
    await door.over.wait()


# --- both ------------------------------------------------------------------------------------------

SAME = [
    PUSH,
    request_bytes("POST", "/queues/q/jobs", b'{"data":'),
    request_bytes("GET", "/jobs/nobody"),
    request_bytes("GET", "/nowhere"),
    request_bytes("GET", "/queues/q/jobs?timeout=x"),
    request_bytes("POST", "/queues/q/pause", b""),
    PUSH.replace(b"Host: x\r\n", b"Host: x\r\nOrigin: https://elsewhere.example\r\n"),
]


@pytest.mark.parametrize("request_", SAME)
async def test_clients_see_the_same_bytes_through_both_versions(
    world: World, request_: bytes, monkeypatch: pytest.MonkeyPatch
):
    async def answers() -> list[bytes]:
        client, found = world.connect(await world.door()), []
        for _ in range(3):
            await client.send_all(request_)
            await settled()
            text = re.sub(rb"(?i)date: [^\r]*", b"date", bytes(await client.receive_some()))
            found.append(re.sub(rb"[0-9a-f]{8}-[0-9a-f-]{27}", b"id", text))
        return found

    second = await answers()
    monkeypatch.setattr("bunqueue_trio.doors.asking.VERSION", 1)
    first = await answers()
    assert first == second
    assert second[0].startswith(b"HTTP/1.1 ")


async def test_a_door_that_ends_says_so_in_heads_that_it_makes(world: World):
    door = await world.door()
    client = world.connect(door)
    for _ in range(2):
        assert (await ask(client, PUSH))[0] == 200
    door.asking.stop()
    await client.send_all(PUSH)
    await settled()
    assert b"Connection: close\r\n\r\n{" in bytes(await client.receive_some())
