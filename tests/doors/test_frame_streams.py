"""Frames: messages in pieces, links that are lost, and doors that say what cannot be or do not read."""

from typing import Any

import pytest
import trio
import trio.testing

from bunqueue_trio.config import (
    DOOR_LOOK_S,
    DOOR_LOOKS,
    FRAMES_UNREAD_BYTES,
    RECEIVE_BYTES,
    WRITE_TIMEOUT_S,
    Settings,
)
from bunqueue_trio.doors.asking import Asking
from bunqueue_trio.doors.frames import (
    ANSWER,
    ASK,
    ASK_MAX,
    ASKS_MAX,
    BROKEN,
    GONE,
    HERE,
    LOOK,
    VERSION,
    BrokenFrames,
    Message,
    Unpacker,
    pack,
)
from bunqueue_trio.doors.lane import FramingDoor
from bunqueue_trio.doors.link import FRAMES
from bunqueue_trio.doors.opened import serve_opened
from bunqueue_trio.doors.refusals import Refusals
from bunqueue_trio.runtime.budget import Budget
from tests.doors.framed_world import POLL, PULL, PUSH, Clocked, Raw, World, ask, ended, response
from tests.doors.framed_world import world as world
from tests.stream.stream_world import Sockless
from tests.wire.raw import request_bytes

pytestmark = pytest.mark.thorough


class Looked:
    """A door that is looked at, and answers as the test says."""

    def __init__(self, world: World) -> None:
        self.stream, its = trio.testing.memory_stream_pair()
        its.socket = Sockless()  # type: ignore[attr-defined]
        self.over = trio.Event()
        self.answers = True
        self.looks = 0
        self.unpacker = Unpacker(1 << 20)
        world.nursery.start_soon(self._serve, world, its)
        world.nursery.start_soon(self._hear)

    async def _serve(self, world: World, its: trio.abc.Stream) -> None:
        await serve_opened(world.server, world.http, its, FRAMES, self, looks=True)
        self.over.set()

    async def _hear(self) -> None:
        while data := await self.stream.receive_some():
            for _, kind, _, _, _ in self.unpacker.feed(bytes(data)):
                self.looks += kind == LOOK
                if kind == LOOK and self.answers:
                    await self.stream.send_all(pack(0, HERE))


async def test_a_door_of_another_machine_that_hangs_gets_no_jobs(world: World, autojump_clock: Clocked):
    """Its connection is there, and takes what it is sent."""
    door = Looked(world)
    await door.stream.send_all(pack(1, ASK, 1, b"a", POLL))
    await trio.sleep(2 * DOOR_LOOKS * DOOR_LOOK_S)
    assert (door.over.is_set(), world.server.core.pulls_waiting) == (False, 1)
    assert door.looks >= 2 * DOOR_LOOKS
    door.answers, begun = False, trio.current_time()
    with trio.fail_after(100 * DOOR_LOOK_S):
        await door.over.wait()
    assert (DOOR_LOOKS - 1) * DOOR_LOOK_S <= trio.current_time() - begun <= (DOOR_LOOKS + 1) * DOOR_LOOK_S
    assert world.server.core.pulls_waiting == world.server.doors.requests == 0
    assert (await ask(world.connect(await world.door()), PUSH))[0] == 200
    assert world.counts() == (1, 0)


async def test_a_door_that_says_anything_does_not_hang(world: World, autojump_clock: Clocked):
    door = Looked(world)
    door.answers = False
    for _ in range(3 * DOOR_LOOKS):
        await door.stream.send_all(pack(1, ASK, 1, b"a", PUSH))
        await trio.sleep(DOOR_LOOK_S)
    assert not door.over.is_set()


async def test_a_door_answers_its_leader(world: World, autojump_clock: Clocked):
    door = await world.door()
    door.asking._hear(Message(0, LOOK, 0, b""))
    assert [message for message, _ in door.asking._out] == [Message(0, HERE, 0, b"")]
    await trio.testing.wait_all_tasks_blocked()
    assert (await ask(world.connect(door), PUSH))[0] == 200


# --- what breaks ----------------------------------------------------------------------------------


def test_messages_come_whole_however_they_are_cut():
    messages = [Message(1, ASK, 3, b"abcdef"), Message(2, GONE, 0, b""), Message(1 << 31, ANSWER, 7, b"x" * 1000)]
    data = b"".join(pack(*message[:4]) for message in messages)
    for size in (*range(1, 30), len(data)):
        unpacker = Unpacker(1000)
        heard = [message for at in range(0, len(data), size) for message in unpacker.feed(data[at : at + size])]
        assert heard == messages
    with pytest.raises(BrokenFrames):
        Unpacker(999).feed(data)


@pytest.mark.parametrize("said", [pack(1, ANSWER), pack(1, 99), pack(1, ASK, 0, b"x" * (ASKS_MAX + 1))])
async def test_a_door_that_says_what_cannot_be_is_left(world: World, autojump_clock: Clocked, said: bytes):
    door = Raw(world)
    await door.stream.send_all(said)
    await door.over.wait()


async def test_a_door_that_does_not_read_is_not_read_and_left_in_the_end(
    world: World, autojump_clock: Clocked, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bunqueue_trio.doors.answering.FRAMES_UNREAD_BYTES", 1000)
    assert FRAMES_UNREAD_BYTES > 1000
    door = Raw(world, trio.testing.lockstep_stream_pair)
    begun, sent = trio.current_time(), 0
    with pytest.raises(trio.BrokenResourceError):  # noqa: PT012 - until it is cut off
        while True:
            await door.say(sent, ASK, PULL)
            sent += 1
    assert sent < 20
    assert trio.current_time() - begun == WRITE_TIMEOUT_S
    await door.over.wait()
    assert world.server.doors.requests == 0


async def test_requests_of_a_lost_stream_get_an_error_and_others_go_out_on_the_next(
    world: World, autojump_clock: Clocked
):
    door = await world.door()
    client = world.connect(door)
    await client.send_all(POLL)
    await trio.testing.wait_all_tasks_blocked()
    [(_, first)] = world.opened
    await first.aclose()
    status, told = await response(client)
    assert (status, told["code"]) == (503, "not-committed")
    assert await ended(client)
    assert (await ask(world.connect(door), PUSH))[0] == 200, "on a new stream"
    assert world.counts() == (1, 0)


async def test_what_was_not_sent_on_a_lost_stream_goes_out_on_the_next(autojump_clock: Clocked):
    streams = [trio.testing.lockstep_stream_pair(), trio.testing.memory_stream_pair()]
    opened = iter([its for _, its in streams])

    async def connect() -> Any:
        return next(opened)

    asking = Asking(connect, memoryview(bytearray(RECEIVE_BYTES)), Budget(1 << 20), Refusals(Settings()))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asking.run)
        sent = asking.ask(1, "a", b"x" * RECEIVE_BYTES)
        not_sent = asking.ask(2, "a", b"second")
        await trio.testing.wait_all_tasks_blocked()
        await streams[0][0].aclose()
        await sent.over.wait()
        assert b"not-committed" in sent.answer
        assert len(asking) == 1
        version, message = Unpacker(ASK_MAX).feed(bytes(await streams[1][0].receive_some(1000)))
        assert version == Message(0, HERE, VERSION, b"")
        assert message == Message(2, ASK, 1, b"asecond")
        await streams[1][0].send_all(pack(2, ANSWER, 0, b"done"))
        await not_sent.over.wait()
        assert not_sent.answer == b"done"
        nursery.cancel_scope.cancel()


async def test_a_door_finds_out_that_there_is_no_leader(world: World, autojump_clock: Clocked, nursery: trio.Nursery):
    world.is_cut = True
    door = FramingDoor(world, world.settings)
    with trio.fail_after(10):
        await door.ask_leader()


async def test_a_fault_ends_one_connection(world: World, autojump_clock: Clocked, monkeypatch: pytest.MonkeyPatch):
    door = await world.door()
    good, bad = world.connect(door), world.connect(door)
    begin = world.server.core.begin

    def fail(command: Any, *args: Any, **named: Any) -> Any:
        if b"bad" in bytes(getattr(command, "data", b"")):
            raise RuntimeError("a fault")
        return begin(command, *args, **named)

    monkeypatch.setattr(world.server.core, "begin", fail)
    await bad.send_all(request_bytes("POST", "/queues/q/jobs", b'{"data":"bad"}'))
    assert await ended(bad)

    async def fail_later(*_: Any) -> Any:
        raise RuntimeError("a fault")

    monkeypatch.setattr(world.http.shared.gateway, "finish", fail_later)
    waits = world.connect(door)
    await waits.send_all(POLL)
    assert await ended(waits)
    assert (await ask(good, PUSH))[0] == 200
    await trio.testing.wait_all_tasks_blocked()
    assert world.server.doors.requests == 0


async def test_however_many_short_words_gather_the_leader_takes_them(world: World, autojump_clock: Clocked):
    """While it read nothing thousands of clients have hung up, or sent the shortest request that there is."""
    door = await world.door()
    for number in range(30_000):
        door.asking.say(number, GONE, BROKEN)
    for number in range(30_000, 38_000):
        door.asking.ask(number, "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff", b"\r\n\r\n")
    with trio.fail_after(60):
        assert (await ask(world.connect(door), PUSH))[0] == 200
    assert [address for address, _ in world.opened] == [FRAMES], "over the stream that there was"


async def test_a_door_that_could_not_reach_its_leader_once_tries_again(world: World, autojump_clock: Clocked):
    """It had no descriptor for that, or the machine no memory."""
    door = await world.door()
    client = world.connect(door)
    world.is_cut = True
    for _, stream in world.opened:
        await stream.aclose()
    await trio.sleep(1)
    with trio.fail_after(60):
        status, told = await ask(client, PUSH)
        assert (status, told["code"]) == (503, "overloaded")
        world.is_cut = False
        assert (await ask(world.connect(door), PUSH))[0] == 200
    assert world.counts() == (1, 0)
