"""Large answers come to a door in parts: neither side makes, sends or reads megabytes in one step."""

from typing import Any

import pytest
import trio
import trio.testing

from bunqueue_trio.config import RECEIVE_BYTES, Settings
from bunqueue_trio.doors.asking import Asking
from bunqueue_trio.doors.frames import (  # fmt: skip
    ANSWER,
    BRINGS,
    CALL,
    HEAD,
    HERE,
    LOOK,
    PART,
    SHAPE,
    SHAPE_BITS,
    UNSENT,
    VERSION,
    Unpacker,
    pack,
    pack_all,
)
from bunqueue_trio.doors.refusals import Refusals
from bunqueue_trio.protocol.again import repeatable
from bunqueue_trio.runtime.budget import Budget
from tests.doors.framed_world import Clocked, Raw, World, ask
from tests.doors.framed_world import world as world
from tests.wire.raw import request_bytes

LARGE = b'{"jobId":"large","data":"%s"}' % (b"x" * 10 * RECEIVE_BYTES)
GET = request_bytes("GET", "/jobs/large")
ACKS = request_bytes("POST", "/jobs/ack-batch", b'{"ids":["a"],"tokens":["t"]}')


@pytest.fixture
async def large(world: World) -> World:
    client = world.connect(await world.door())
    assert (await ask(client, request_bytes("POST", "/queues/q/jobs", LARGE)))[0] == 200
    await client.aclose()
    return world


@pytest.mark.parametrize("version", [1, 2, VERSION])
async def test_a_client_gets_all_of_a_large_answer(large: World, version: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bunqueue_trio.doors.asking.VERSION", version)
    client = large.connect(await large.door())
    for _ in range(2):
        status, answer = await ask(client, GET)
        assert (status, len(answer["job"]["data"])) == (200, 10 * RECEIVE_BYTES)
    assert large.server.buffers.held == 0


async def test_no_frame_is_as_large_as_the_answer(large: World):
    door = Raw(large)
    await door.stream.send_all(pack(0, HERE, VERSION))
    await door.hear()
    await door.stream.send_all(pack_all([(4, HEAD, 0, GET, ""), (1, CALL, 4, b"", "a.b")], VERSION))
    body, kinds = b"", []
    while ANSWER not in kinds:
        _, kind, _, data, _ = await door.hear()
        kinds.append(kind)
        body += data if kind in (PART, ANSWER) else b""
        assert len(data) <= RECEIVE_BYTES
    assert kinds == [SHAPE, *[PART] * 10, ANSWER]
    assert body.startswith(b'{"ok":true')
    assert len(body) > len(LARGE)


class Leader:
    """One that says parts; ``room`` bounds what the door may hold."""

    def __init__(self, nursery: trio.Nursery, room: int) -> None:
        self.stream: Any = None
        self.budget = Budget(room)
        self.asking = Asking(
            self.connect, memoryview(bytearray(RECEIVE_BYTES)), self.budget, Refusals(Settings()), repeatable
        )
        nursery.start_soon(self.asking.run)

    async def connect(self) -> Any:
        self.stream, its = trio.testing.memory_stream_pair()
        await self.say((0, LOOK, VERSION, b"", ""), (7, SHAPE, 0, b"HTTP/1.1 200 OK\r\nx: y\r\n", ""))
        return its

    async def say(self, *messages: Any) -> None:
        await self.stream.send_all(pack_all(messages, VERSION))
        await trio.testing.wait_all_tasks_blocked()


async def test_what_a_door_has_no_room_for_is_503_and_its_jobs_go_back(nursery: trio.Nursery):
    leader = Leader(nursery, 3 * RECEIVE_BYTES)
    await trio.testing.wait_all_tasks_blocked()
    asked = leader.asking.ask(1, "a.b", GET)
    for _ in range(4):
        await leader.say((1, PART, 0, b"x" * RECEIVE_BYTES, ""))
    assert asked.over.is_set()
    assert asked.ends
    assert b" 503 " in asked.answer
    leader.asking.settle(asked, is_sent=True)
    assert leader.budget.held == 0
    await leader.say((1, ANSWER, 7 << SHAPE_BITS | BRINGS, b"x", ""))
    heard = Unpacker(1 << 30).feed(bytes(await leader.stream.receive_some()))
    assert (1, UNSENT) in [each[:2] for each in heard]
    nursery.cancel_scope.cancel()


async def test_a_read_that_is_asked_again_has_the_answer_of_the_next_leader_alone(
    nursery: trio.Nursery, autojump_clock: Clocked
):
    leader = Leader(nursery, 1 << 30)
    await trio.testing.wait_all_tasks_blocked()
    asked = leader.asking.ask(1, "a.b", GET)
    await leader.say((1, PART, 0, b"old" * 1000, ""))
    await leader.stream.aclose()
    await trio.sleep(1)
    await leader.say((1, PART, 0, b"new" * 1000, ""), (1, ANSWER, 7 << SHAPE_BITS, b"!", ""))
    assert asked.over.is_set()
    assert b"content-length: 3001\r\n" in asked.answer
    assert b"".join(asked.body) == b"new" * 1000 + b"!"
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("edge", range(1, 14))
async def test_what_was_done_the_first_time_is_seen_across_the_parts_of_an_answer(
    nursery: trio.Nursery, autojump_clock: Clocked, edge: int
):
    leader = Leader(nursery, 1 << 30)
    await trio.testing.wait_all_tasks_blocked()
    asked = leader.asking.ask(1, "a.b", ACKS)
    await leader.stream.aclose()
    await trio.sleep(1)
    said = b'"ignoredIds":["a"]}}'
    await leader.say(
        (1, PART, 0, b'{"ok":true,"data":{' + said[:edge], ""), (1, ANSWER, 7 << SHAPE_BITS, said[edge:], "")
    )
    assert b'"not-committed"' in asked.answer
    assert asked.ends
    nursery.cancel_scope.cancel()
