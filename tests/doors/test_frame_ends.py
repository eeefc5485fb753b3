"""Frames: doors, clients and disks that fail, and what becomes of the job that was on its way."""

import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from bunqueue_trio.config import (
    HALF_CLOSED_S,
    RECEIVE_BYTES,
    Settings,
)
from bunqueue_trio.doors.answering import Answering
from bunqueue_trio.doors.frames import (
    ANSWER,
    ASK,
    BRINGS,
    BROKEN,
    ENDS,
    GONE,
    LAST,
    LOOK,
    SENT,
    SPLICE,
    STOPS,
    UNSENT,
    WAITED,
    WAITS,
    Message,
    Unpacker,
    pack,
)
from bunqueue_trio.doors.link import FRAMES
from bunqueue_trio.doors.opened import serve_opened
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.tree import serve
from bunqueue_trio.storage.memory import MemoryStore
from tests.doors.framed_world import POLL, PULL, PUSH, Clocked, Raw, World, ask, nothing
from tests.doors.framed_world import world as world
from tests.storage.distant import DistantStore
from tests.wire.raw import request_bytes

pytestmark = pytest.mark.thorough


# --- deliveries -----------------------------------------------------------------------------------


@pytest.fixture
async def distant(nursery: trio.Nursery) -> AsyncIterator[World]:
    """A world whose store answers after two seconds."""
    settings = Settings()
    server = Server(settings, DistantStore(MemoryStore(), away_s=1), Clock(1_700_000_000_000))
    await nursery.start(serve, server, [nothing])
    yield World(server, nursery, settings)
    nursery.cancel_scope.cancel()


async def test_an_answer_waits_for_its_own_commit(distant: World, autojump_clock: Clocked):
    door, begun = Raw(distant), trio.current_time()
    await door.say(1, ASK, PUSH)
    await trio.sleep(0.5)
    await door.say(2, ASK, PUSH)
    assert (await door.hear()).number == 1
    assert 2 <= trio.current_time() - begun < 3
    assert (await door.hear()).number == 2
    assert trio.current_time() - begun >= 4


async def test_a_delivery_whose_door_dies_before_its_commit_returns(distant: World, autojump_clock: Clocked):
    door = Raw(distant)
    await door.say(1, ASK, PUSH)
    await door.hear()
    await door.say(1, ASK, PULL)
    await trio.sleep(0.5)
    assert distant.counts() == (0, 1)
    await door.stream.aclose()
    await door.over.wait()
    assert distant.counts() == (1, 0)


async def test_a_delivery_whose_client_goes_before_its_commit_returns(distant: World, autojump_clock: Clocked):
    door = await distant.door()
    assert (await ask(distant.connect(door), PUSH))[0] == 200
    with trio.move_on_after(0.5):
        await door.serve(Failing(PULL))
    assert distant.counts() == (0, 1)
    await trio.sleep(5)
    assert distant.counts() == (1, 0)


class Failing(trio.abc.HalfCloseableStream):
    """A client that asks, and is gone when the answer comes."""

    def __init__(self, request: bytes) -> None:
        self._request = request

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        request, self._request = self._request, b""
        if not request:
            await trio.sleep_forever()
        return request

    async def send_all(self, data: Any) -> None:
        raise trio.BrokenResourceError("gone")

    async def wait_send_all_might_not_block(self) -> None:
        raise NotImplementedError

    async def send_eof(self) -> None:
        raise trio.BrokenResourceError("gone")

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("request_", [PULL, POLL])
async def test_a_job_that_could_not_be_written_returns(world: World, autojump_clock: Clocked, request_: bytes):
    door = await world.door()
    assert (await ask(world.connect(door), PUSH))[0] == 200
    await door.serve(Failing(request_))
    await trio.testing.wait_all_tasks_blocked()
    assert world.counts() == (1, 0)


async def test_who_has_gone_gets_nothing_and_nobody_waits_for_it(world: World, autojump_clock: Clocked):
    door = await world.door()
    with trio.move_on_after(5):
        await door.serve(Failing(POLL))
    await trio.testing.wait_all_tasks_blocked()
    assert world.server.core.pulls_waiting == world.server.doors.requests == 0
    assert (await ask(world.connect(door), PUSH))[0] == 200
    assert world.counts() == (1, 0)


async def test_what_comes_at_once_is_one_commit(world: World, autojump_clock: Clocked):
    door = Raw(world)
    before = world.server.journal.commits
    await door.stream.send_all(b"".join(pack(number, ASK, 3, b"a.b", PUSH) for number in range(20)))
    assert [(await door.hear())[:2] for _ in range(20)] == [(number, ANSWER) for number in range(20)]
    assert world.server.journal.commits - before == 1
    assert world.counts() == (20, 0)


@pytest.mark.parametrize(("said", "counts"), [(SENT, (0, 1)), (UNSENT, (1, 0)), (None, (0, 1))])
async def test_a_delivery_is_settled_by_what_the_door_says_and_stays_if_it_dies(
    world: World, autojump_clock: Clocked, said: Any, counts: Any
):
    door = Raw(world)
    await door.say(1, ASK, PUSH)
    assert (await door.hear()).kind == ANSWER
    await door.say(1, ASK, PULL)
    answer = await door.hear()
    assert answer.extra & BRINGS
    assert world.counts() == (0, 1)
    if said is not None:
        await door.say(1, said)
        await door.say(1, said)
    await door.stream.aclose()
    await door.over.wait()
    assert world.counts() == counts


async def test_a_door_that_dies_with_waiting_pulls_takes_no_job_along(world: World, autojump_clock: Clocked):
    door = Raw(world)
    for number in range(3):
        await door.say(number, ASK, POLL)
    await trio.testing.wait_all_tasks_blocked()
    assert world.server.core.pulls_waiting == 3
    assert [(await door.hear())[:2] for _ in range(3)] == [(number, WAITS) for number in range(3)]
    await door.say(1, GONE)
    assert (await door.hear())[:2] == (1, ANSWER)
    assert world.server.core.pulls_waiting == 2
    await door.stream.aclose()
    await door.over.wait()
    assert world.server.core.pulls_waiting == world.server.doors.requests == 0
    client = world.connect(await world.door())
    assert (await ask(client, PUSH))[0] == 200
    assert world.counts() == (1, 0)


@pytest.mark.parametrize("extra", [0, BROKEN])
async def test_a_wait_ends_with_its_connection_and_not_with_what_its_client_says(
    world: World, autojump_clock: Clocked, extra: int
):
    """Who says no more behind a request still reads; but a pull that waits gets no job."""
    door = Raw(world)
    await door.say(1, ASK, PUSH)
    job_id = json.loads((await door.hear()).data.partition(b"\r\n\r\n")[2])["id"]
    await door.say(1, ASK, request_bytes("GET", f"/jobs/{job_id}/result?timeout=5000"))
    assert (await door.hear())[:2] == (1, WAITS)
    began = trio.current_time()
    await door.say(1, GONE, extra=extra)
    answer = await door.hear()
    assert trio.current_time() - began == (0 if extra else 5)
    assert (answer.kind, answer.extra & WAITED) == (ANSWER, 0)
    assert (b"HTTP/1.1 " in answer.data) is not bool(extra)
    assert world.server.core.ends.waiting == 0


async def test_who_says_no_more_waits_for_the_end_of_a_job_as_long_as_without_doors(
    world: World, autojump_clock: Clocked
):
    door = Raw(world)
    await door.say(1, ASK, PUSH)
    job_id = json.loads((await door.hear()).data.partition(b"\r\n\r\n")[2])["id"]
    await door.say(1, ASK, request_bytes("GET", f"/jobs/{job_id}/result?timeout=600000"))
    assert (await door.hear())[:2] == (1, WAITS)
    await trio.sleep(60)
    assert world.server.core.ends.waiting == 1
    await door.say(1, GONE)
    begun = trio.current_time()
    answer = await door.hear()
    assert trio.current_time() - begun == HALF_CLOSED_S
    assert (answer.kind, answer.data, bool(answer.extra & ENDS)) == (ANSWER, b"", True)
    assert world.server.core.ends.waiting == 0


async def test_an_answer_that_never_left_returns_its_job(world: World, autojump_clock: Clocked):
    """The door is gone, and the kernel takes nothing: that is known."""
    door = Raw(world)
    await door.say(1, ASK, PUSH)
    await door.hear()
    await door.say(1, ASK, PULL + b"x")  # is none for frames
    assert (await door.hear()).kind == SPLICE
    answering = Answering(world.server, world.http.shared, Failing(b""))
    async with trio.open_nursery() as nursery:
        answering._take_turn([Message(1, ASK, 0, PULL)], 0, nursery)
        answering._end()
    assert world.counts() == (1, 0)


async def test_an_answer_that_the_door_has_no_room_for_returns_its_job(world: World, autojump_clock: Clocked):
    door = await world.door()
    large = request_bytes("POST", "/queues/q/jobs", b'{"data":"' + b"x" * (3 * RECEIVE_BYTES) + b'"}')
    assert (await ask(world.connect(door), large))[0] == 200
    door._buffers.held = door._buffers._limit
    status, told = await ask(world.connect(door), PULL)
    assert (status, told["code"]) == (503, "buffers-full")
    await trio.testing.wait_all_tasks_blocked()
    assert world.counts() == (1, 0)


async def test_a_leader_that_stops_waits_for_the_last_word_of_doors_of_other_machines(
    world: World, nursery: trio.Nursery
):
    """What they had asked by then is answered; the stream does not end with a push on its way."""
    ours, its = trio.testing.memory_stream_pair()
    nursery.start_soon(partial(serve_opened, world.server, world.http, its, FRAMES, None, looks=True))
    unpacker = Unpacker(1 << 20)

    async def hear(wanted: int) -> Message:
        while True:
            for message in unpacker.feed(bytes(await ours.receive_some(1 << 16))):
                if message[1] == wanted:
                    return Message(*message)

    await ours.send_all(pack(0, LAST))
    assert (await hear(LOOK)).number == 0
    await trio.testing.wait_all_tasks_blocked()
    assert world.server.doors.requests == 0, "a last word that nobody has asked for counts for nothing"
    world.server.stop.set()
    await hear(STOPS)
    await trio.testing.wait_all_tasks_blocked()
    assert world.server.doors.requests == 1
    await ours.send_all(pack(1, ASK, 1, b"a" + PUSH))
    assert b"200 OK" in (await hear(ANSWER)).data
    await ours.send_all(pack(0, LAST) * 2)
    await trio.testing.wait_all_tasks_blocked()
    assert world.server.doors.requests == 0


def test_a_large_message_is_put_together_once():
    """With each piece it would be a copy of all that had come: of 10 MiB in pieces of 64 KiB 800 MB."""
    unpacker, whole = Unpacker(1 << 20), pack(1, ANSWER, 0, b"x" * 1000)
    for at in range(0, 1000, 100):
        assert unpacker.feed(whole[at : at + 100]) == []
    assert max(map(len, unpacker._chunks)) == 100
    assert unpacker.feed(whole[1000:]) == [Message(1, ANSWER, 0, b"x" * 1000)]
