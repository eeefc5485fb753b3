"""Answers to a door leave in the step of their commit, as far as the kernel takes them; the rest follows, in order and once."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from bunqueue_trio.doors.answering import Answering
from bunqueue_trio.doors.frames import ANSWER, ASK, Message, Unpacker, pack
from bunqueue_trio.protocol import commands as c
from tests.doors.framed_world import PULL, World
from tests.doors.framed_world import world as world
from tests.wire.raw import request_bytes

LARGE = b'"' + b"x" * 50_000 + b'"'


class Narrow:
    """A door, and a way to it that takes a little at a time."""

    def __init__(self, world: World) -> None:
        door, its = socket.socketpair()
        its.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.door = trio.SocketStream(trio.socket.from_stdlib_socket(door))
        self.its = trio.SocketStream(trio.socket.from_stdlib_socket(its))
        self.answering = Answering(world.server, world.http.shared, self.its)
        self.over = trio.Event()

    async def run(self) -> None:
        await self.answering.run()
        await trio.aclose_forcefully(self.its)
        self.over.set()

    async def pull(self, number: int) -> None:
        await self.door.send_all(pack(number, ASK, 3, b"a.b", PULL))


@asynccontextmanager
async def narrow(world: World, jobs: int, data: bytes = LARGE) -> AsyncIterator[Narrow]:
    """A leader with this many jobs, and such a door."""
    for _ in range(jobs):
        await world.server.core.execute(c.Push(queue="q", data=c.Raw(data)))
    made = Narrow(world)
    world.nursery.start_soon(made.run)
    yield made
    await made.door.aclose()
    await made.over.wait()


def put_to(answering: Answering, world: World) -> None:
    """Answer a pull in this very step, as far as its stream takes it."""
    begun, shared = world.server.core.begin(c.Pull(queue="q")), world.http.shared
    call = shared.requests.parse(PULL, len(PULL)).call  # type: ignore[union-attr]
    answering._answer(1, shared.gateway.finish_nowait(call, begun))
    answering._send_nowait()


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(60):
        while not condition():
            await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("jobs", [1, 3])
async def test_what_the_kernel_does_not_take_at_once_follows_in_order(world: World, jobs: int):
    numbers = [*range(1, jobs + 1)]
    async with narrow(world, jobs) as door:
        for number in numbers:
            await door.pull(number)
        await until(lambda: world.counts() == (0, jobs))
        unpacker, heard = Unpacker(1 << 30), list[Message]()
        with trio.fail_after(60):
            while len(heard) < jobs:
                heard += [Message(*each) for each in unpacker.feed(bytes(await door.door.receive_some(3000)))]
        assert [(each.number, each.kind) for each in heard] == [(number, ANSWER) for number in numbers]
        assert all(each.data.count(LARGE) == 1 for each in heard)


async def test_of_what_was_handed_over_in_part_nobody_knows_and_the_rest_returns(world: World):
    async with narrow(world, 2) as door:
        await door.pull(1)
        await until(lambda: door.answering._left is not None)
        await door.pull(2)
        await until(lambda: world.counts() == (0, 2))
        await trio.testing.wait_all_tasks_blocked()
        await door.door.aclose()
        with trio.fail_after(60):
            await door.over.wait()
    assert world.counts() == (1, 1), "the first may have arrived"
    assert world.server.doors.requests == 0


async def test_what_was_handed_over_in_part_does_not_return_when_the_door_ends_at_once(world: World):
    """Before the writer has begun with the rest."""
    await world.server.core.execute(c.Push(queue="q", data=c.Raw(LARGE)))
    door = Narrow(world)
    put_to(door.answering, world)
    assert door.answering._left is not None
    assert len(door.answering._left[0]) < len(LARGE)
    await door.door.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await door.answering._send_some()
    assert world.counts() == (0, 1)
    await door.its.aclose()


async def test_what_there_was_no_room_for_returns_with_the_end_of_its_door(world: World):
    """The door is gone before the writer has begun with it."""
    await world.server.core.execute(c.Push(queue="q", data=c.Raw(b"1")))
    ours, its = trio.testing.memory_stream_pair()
    answering = Answering(world.server, world.http.shared, its)
    put_to(answering, world)
    assert (world.counts(), answering._left is None) == ((0, 1), False), (
        "a stream without a socket takes nothing at once"
    )
    answering._end()
    assert world.counts() == (1, 0)
    await ours.aclose()


async def test_answers_leave_in_the_step_of_their_commit(world: World):
    """To wake a task for them would cost as much as some pushes."""
    push = request_bytes("POST", "/queues/q/jobs", b'{"data":1}')
    async with narrow(world, 0) as door:
        await trio.testing.wait_all_tasks_blocked()
        woken: list[None] = []
        door.answering._bell.ring = lambda: woken.append(None)  # type: ignore[method-assign]
        unpacker, heard = Unpacker(1 << 30), list[Message]()
        await door.door.send_all(b"".join(pack(n, ASK, 3, b"a.b", push) for n in range(10)))
        with trio.fail_after(60):
            while len(heard) < 10:
                heard += [Message(*each) for each in unpacker.feed(bytes(await door.door.receive_some(65536)))]
        assert world.counts() == (10, 0)
        assert woken == []
