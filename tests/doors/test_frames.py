"""Requests in frames: the leader answers them as its own, whoever cuts, stalls or dies. In virtual time, without sockets."""

import itertools
import json
from collections.abc import AsyncIterator, Callable
from functools import partial
from random import Random
from typing import Any

import pytest
import trio
import trio.testing

from bunqueue_trio.config import (
    DOOR_LOOK_S,
    DOOR_LOOKS,
    FRAMES_UNREAD_BYTES,
    PIECES_S,
    RECEIVE_BYTES,
    WRITE_TIMEOUT_S,
    Settings,
)
from bunqueue_trio.doors.answering import Answering, serve_opened
from bunqueue_trio.doors.asking import Asking
from bunqueue_trio.doors.frames import (
    ANSWER,
    ASK,
    ASK_MAX,
    BRINGS,
    GONE,
    HERE,
    LAST,
    LOOK,
    SENT,
    SPLICE,
    STOPS,
    UNSENT,
    WAITS,
    BrokenFrames,
    Message,
    Unpacker,
    pack,
)
from bunqueue_trio.doors.lane import FramingDoor
from bunqueue_trio.doors.link import FRAMES, LinkLost
from bunqueue_trio.doors.refusals import Refusals
from bunqueue_trio.runtime.budget import Budget
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.tree import serve
from bunqueue_trio.storage.memory import MemoryStore
from bunqueue_trio.transports.listener import Http
from tests.storage.distant import DistantStore
from tests.stream.test_virtual import Sockless
from tests.wire.raw import request_bytes

pytestmark = pytest.mark.thorough


PUSH = request_bytes("POST", "/queues/q/jobs", b'{"data":1}')
PULL = request_bytes("GET", "/queues/q/jobs")
POLL = request_bytes("GET", "/queues/q/jobs?timeout=60000")
LIVE = request_bytes("GET", "/live")
Clocked = trio.testing.MockClock


class World:
    """A leader in virtual time, and the link of its doors, which can be cut."""

    def __init__(self, server: Server, nursery: trio.Nursery, settings: Settings) -> None:
        self.server = server
        self.nursery = nursery
        self.settings = settings
        self.http = Http(server, nursery, express=True)
        self.opened: list[tuple[str, trio.abc.Stream]] = []
        """What doors have opened: the address, and the leader's end."""
        self.is_cut = False

    async def open(self, address: str) -> Any:
        """As a link does."""
        if self.is_cut:
            raise LinkLost("cut")
        ours, its = trio.testing.memory_stream_pair()
        ours.socket = Sockless()  # type: ignore[attr-defined]
        self.opened.append((address, ours))
        self.nursery.start_soon(serve_opened, self.server, self.http, ours, address, self)
        return its

    async def door(self) -> FramingDoor:
        door = FramingDoor(self, self.settings)
        self.nursery.start_soon(door.run)
        await trio.testing.wait_all_tasks_blocked()
        return door

    def connect(self, door: FramingDoor, make: Callable[[], Any] = trio.testing.memory_stream_pair) -> Any:
        ours, its = make()
        self.nursery.start_soon(door.serve, its)
        return ours

    def spliced(self) -> int:
        return sum(address != FRAMES for address, _ in self.opened)

    def counts(self) -> tuple[int, int]:
        """How many jobs wait, and how many are active."""
        jobs = self.server.counts()
        return jobs["waiting"], jobs["active"]


async def nothing(server: Server, *, task_status: trio.TaskStatus[list[str]]) -> None:
    task_status.started([])
    await server.stop.wait()


@pytest.fixture
async def world(nursery: trio.Nursery) -> AsyncIterator[World]:
    settings = Settings()
    server = Server(settings, MemoryStore(), Clock(1_700_000_000_000))
    await nursery.start(serve, server, [nothing])
    yield World(server, nursery, settings)
    nursery.cancel_scope.cancel()


async def response(stream: trio.abc.Stream) -> tuple[int, Any]:
    """Read one response; the rest of what came with it must be nothing."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = await stream.receive_some(1)
        assert more, data
        data += bytes(more)
    head = data.lower()
    length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    body = b""
    while len(body) < length:
        body += bytes(await stream.receive_some(length - len(body)))
    text = body.decode()
    return int(data.split()[1]), json.loads(text) if text.startswith("{") else text


async def ask(stream: trio.abc.Stream, request: bytes) -> tuple[int, Any]:
    await stream.send_all(request)
    return await response(stream)


async def ended(stream: trio.abc.Stream) -> bool:
    return await stream.receive_some(1) == b""


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


class Raw:
    """A door that says what a test wants."""

    def __init__(self, world: World, make: Any = trio.testing.memory_stream_pair) -> None:
        self.stream, its = make()
        self._unpacker = Unpacker(1 << 30)
        self._heard: list[Message] = []
        self.over = trio.Event()

        async def run() -> None:
            await Answering(world.server, world.http.shared, its).run()
            await trio.aclose_forcefully(its)
            self.over.set()

        world.nursery.start_soon(run)

    async def say(self, number: int, kind: int, data: bytes = b"") -> None:
        await self.stream.send_all(
            pack(number, kind, 3 if kind == ASK else 0, *((b"a.b", data) if kind == ASK else ()))
        )

    async def hear(self) -> Message:
        while not self._heard:
            data = await self.stream.receive_some(RECEIVE_BYTES)
            assert data
            self._heard = self._unpacker.feed(bytes(data))
        return self._heard.pop(0)


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
            for message in self.unpacker.feed(bytes(data)):
                self.looks += message.kind == LOOK
                if message.kind == LOOK and self.answers:
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
    assert [data for data, _ in door.asking._out] == [pack(0, HERE)]
    await trio.testing.wait_all_tasks_blocked()
    assert (await ask(world.connect(door), PUSH))[0] == 200


async def test_an_answer_that_never_left_returns_its_job(world: World, autojump_clock: Clocked):
    """The door is gone, and the kernel takes nothing: that is known."""
    door = Raw(world)
    await door.say(1, ASK, PUSH)
    await door.hear()
    await door.say(1, ASK, PULL + b"x")  # is none for frames
    assert (await door.hear()).kind == SPLICE
    answering = Answering(world.server, world.http.shared, Failing(b""))
    async with trio.open_nursery() as nursery:
        answering._hear(Message(1, ASK, 0, PULL), nursery)
        answering._end()
    assert world.counts() == (1, 0)


# --- what breaks ----------------------------------------------------------------------------------


def test_messages_come_whole_however_they_are_cut():
    messages = [Message(1, ASK, 3, b"abcdef"), Message(2, GONE, 0, b""), Message(1 << 31, ANSWER, 7, b"x" * 1000)]
    data = b"".join(pack(*message) for message in messages)
    for size in (*range(1, 30), len(data)):
        unpacker = Unpacker(1000)
        heard = [message for at in range(0, len(data), size) for message in unpacker.feed(data[at : at + size])]
        assert heard == messages
    with pytest.raises(BrokenFrames):
        Unpacker(999).feed(data)


@pytest.mark.parametrize("said", [pack(1, ANSWER), pack(1, 99), pack(1, ASK, 0, b"x" * (ASK_MAX + 1))])
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


async def test_requests_of_a_lost_stream_are_told_so_and_others_go_out_on_the_next(
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
        sent = asking.ask(1, b"a", b"x" * RECEIVE_BYTES)
        not_sent = asking.ask(2, b"a", b"second")
        await trio.testing.wait_all_tasks_blocked()
        await streams[0][0].aclose()
        await sent.over.wait()
        assert b"not-committed" in sent.answer
        assert len(asking) == 1
        [message] = Unpacker(ASK_MAX).feed(bytes(await streams[1][0].receive_some(1000)))
        assert message == Message(2, ASK, 1, b"asecond")
        await streams[1][0].send_all(pack(2, ANSWER, 0, b"done"))
        await not_sent.over.wait()
        assert not_sent.answer == b"done"
        nursery.cancel_scope.cancel()


async def test_without_a_leader_a_door_ends(world: World, autojump_clock: Clocked, nursery: trio.Nursery):
    world.is_cut = True
    door = FramingDoor(world, world.settings)
    with trio.fail_after(10):
        await door.run()


async def test_an_answer_that_the_door_has_no_room_for_returns_its_job(world: World, autojump_clock: Clocked):
    door = await world.door()
    large = request_bytes("POST", "/queues/q/jobs", b'{"data":"' + b"x" * (3 * RECEIVE_BYTES) + b'"}')
    assert (await ask(world.connect(door), large))[0] == 200
    door._buffers.held = door._buffers._limit
    status, told = await ask(world.connect(door), PULL)
    assert (status, told["code"]) == (503, "buffers-full")
    await trio.testing.wait_all_tasks_blocked()
    assert world.counts() == (1, 0)


async def test_a_fault_ends_one_connection(world: World, autojump_clock: Clocked, monkeypatch: pytest.MonkeyPatch):
    door = await world.door()
    good, bad = world.connect(door), world.connect(door)
    begin = world.http.shared.gateway.begin

    def fail(call: Any, body: bytes, address: str) -> Any:
        if b"bad" in body:
            raise RuntimeError("a fault")
        return begin(call, body, address)

    monkeypatch.setattr(world.http.shared.gateway, "begin", fail)
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
                if message.kind == wanted:
                    return message

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
