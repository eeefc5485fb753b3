"""A newcomer's request waits for a bounded part of what others have sent, however many they are and however much that is."""

import random
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count
from resource import RLIMIT_NOFILE, getrlimit, setrlimit
from typing import Any

import pytest
import trio
import trio.testing

from bunqueue_trio.api.gateway import Gateway
from bunqueue_trio.api.session import Session
from bunqueue_trio.config import ACCEPTS_MAX, COMMANDS_A_ROUND, DESCRIPTORS_KEPT, ENDS_A_TURN, PAGES_A_ROUND
from bunqueue_trio.transports.newcomers import Eager
from bunqueue_trio.transports.rounds import Rounds
from tests.sim.wire import Connection, Pace
from tests.stream.hot_world import PUSH, Start, put
from tests.stream.hot_world import start as start
from tests.stream.ws import HANDSHAKE, TEXT, frame
from tests.wire.raw import request_bytes

# A request is read, run and committed; a few rounds go by before it is read, as it has to be accepted.
ROUNDS = 8
OTHERS = 130

CHUNKED = b'POST /queues/q/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\na\r\n{"data":1}\r\n0\r\n\r\n'
HALF = b"POST /queues/q/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"
UPGRADE = HANDSHAKE.format(path="/ws").encode()
SENT: dict[str, tuple[bytes, bytes, int, int]] = {
    "pages": (b"", request_bytes("GET", "/health"), 6, PAGES_A_ROUND),
    "nothing there": (b"", request_bytes("GET", "/nowhere"), 6, PAGES_A_ROUND),
    "the other lane": (CHUNKED, CHUNKED, 3, PAGES_A_ROUND),
    "commands": (b"", request_bytes("GET", "/jobs/none"), 12, COMMANDS_A_ROUND),
    "pages by WebSocket": (UPGRADE, frame(TEXT, b'{"cmd":"Stats"}'), 12, PAGES_A_ROUND),
    "commands by WebSocket": (UPGRADE, frame(TEXT, b'{"cmd":"Ping"}'), 12, COMMANDS_A_ROUND),
}


@pytest.mark.parametrize(
    "sent", ["commands", *(pytest.param(name, marks=pytest.mark.thorough) for name in SENT if name != "commands")]
)
async def test_a_newcomer_waits_for_a_few_rounds_of_what_others_have_sent(
    start: Start, monkeypatch: pytest.MonkeyPatch, sent: str
) -> None:
    world = await start()
    before, one, many, each = SENT[sent]
    others = await world.connect_many(OTHERS)
    for other in others:
        put(other, before)
    await trio.testing.wait_all_tasks_blocked()
    work, before_rounds = 0, 16 if sent == "the other lane" else 9
    done: list[int] = []

    def counted(doing: Callable[..., Any]) -> Callable[..., Any]:
        def do(*args: Any, **named: Any) -> Any:
            nonlocal work
            work += 1
            return doing(*args, **named)

        return do

    monkeypatch.setattr(Gateway, "respond", counted(Gateway.respond))
    monkeypatch.setattr(Session, "take_in", counted(Session.take_in))
    connection = Connection(random.Random(1), Pace(0, 0, 0))
    connection.server.on_send = lambda _: done.append(work - before_it)
    for other in others:
        put(other, one * many)
    for _ in range(before_rounds):
        await trio.lowlevel.checkpoint()
    before_it = work
    put(connection.client, PUSH)
    world.nursery.start_soon(world.http.serve, connection.server)
    await trio.testing.wait_all_tasks_blocked()
    assert work == OTHERS * many
    assert len(done) == 1
    assert before_it <= (before_rounds - 1) * each
    assert done[0] <= ROUNDS * each


@pytest.mark.parametrize("before", ["idle", "half a body", "WebSocket"])
async def test_a_request_waits_for_the_end_of_few_who_hang_up_at_once(start: Start, before: str) -> None:
    world, many = await start(), 3 * OTHERS
    others = await world.connect_many(many)
    for other in others:
        # Behind a request that the hot loop has left to it, a task reads the next one by itself.
        put(other, {"idle": request_bytes("GET", "/nowhere"), "half a body": HALF, "WebSocket": UPGRADE}[before])
    await trio.testing.wait_all_tasks_blocked()
    left: list[int] = []
    connection = Connection(random.Random(1), Pace(0, 0, 0))
    connection.server.on_send = lambda _: left.append(len(world.http._connections))
    world.nursery.start_soon(world.http.serve, connection.server)
    await trio.testing.wait_all_tasks_blocked()
    for other in others:
        other.close()
    for _ in range(ROUNDS):
        await trio.lowlevel.checkpoint()
    put(connection.client, PUSH)
    await trio.testing.wait_all_tasks_blocked()
    assert many + 1 - left[0] <= 2 * ROUNDS * ENDS_A_TURN
    assert len(world.http._connections) == 1


async def test_work_begins_first_come_first_served_so_much_in_a_round(nursery: trio.Nursery) -> None:
    rounds, begun, at = Rounds(nursery, 3), list[int](), list[int]()
    count = 0

    async def work(number: int) -> None:
        await rounds.begin()
        begun.append(number)
        at.append(count)

    async def count_rounds() -> None:
        nonlocal count
        while len(begun) < 10:
            await trio.lowlevel.checkpoint()
            count += 1

    for number in range(10):
        nursery.start_soon(work, number)
    nursery.start_soon(count_rounds)
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(begun) == list(range(10))
    # A round may begin before or after it is counted.
    assert max(Counter(at).values()) <= 6
    assert len(set(at)) >= 3
    begun.clear()
    # More come in each round than begin.
    for number in range(40):
        nursery.start_soon(work, number)
        if number % 6 == 5:
            await trio.lowlevel.checkpoint()
    await trio.testing.wait_all_tasks_blocked()
    # Those of one round go in any order.
    assert all(abs(number - place) < 9 for place, number in enumerate(begun))


class Held(trio.abc.Instrument):
    """Each step of any task takes a second."""

    def __init__(self, clock: trio.testing.MockClock) -> None:
        self._clock = clock

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._clock.jump(1)


async def test_what_takes_long_ends_its_round(nursery: trio.Nursery, mock_clock: trio.testing.MockClock) -> None:
    """However many may begin; and the line moves, whatever else takes its time."""
    rounds, came, begun, at, count = Rounds(nursery, 64), list[int](), list[int](), list[int](), 0

    async def work(number: int) -> None:
        came.append(number)
        await rounds.begin()
        mock_clock.jump(0.005)
        begun.append(number)
        at.append(count)

    for number in range(200):
        nursery.start_soon(work, number)
    while len(begun) < 200:
        await trio.lowlevel.checkpoint()
        count += 1
    # A round may begin before or after it is counted.
    assert max(Counter(at).values()) <= 4
    # Those of one round go in any order: of the first rounds many are let go on, and a few begin.
    assert sorted(abs(begun.index(number) - place) for place, number in enumerate(came))[-15] < 15
    for number in range(200, 300):
        nursery.start_soon(work, number)
    held = Held(mock_clock)
    trio.lowlevel.add_instrument(held)
    try:
        for _ in range(2000):
            await trio.lowlevel.checkpoint()
    finally:
        trio.lowlevel.remove_instrument(held)
    assert len(begun) == 300


async def test_who_waits_no_more_leaves_its_place_to_the_next_one(nursery: trio.Nursery) -> None:
    rounds = Rounds(nursery, 1)
    await rounds.begin()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as waiting:
            waiting.start_soon(rounds.begin)
            await trio.lowlevel.checkpoint()
            scope.cancel()
    with trio.fail_after(1):
        for _ in range(3):
            await rounds.begin()


class Place(int):
    """A place in the line, which counts how often one is looked at."""

    looks = 0

    def __lt__(self, other: int) -> bool:
        Place.looks += 1
        return int(self) < int(other)

    def __eq__(self, other: object) -> bool:
        Place.looks += 1
        return int(self) == other

    __hash__ = int.__hash__


async def test_thousands_may_be_cancelled_at_once_while_they_wait(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop has one step for all that."""
    rounds, many, begun = Rounds(nursery, 1), 3000, list[str]()
    monkeypatch.setattr(rounds, "_places", map(Place, count()))

    async def work(name: str) -> None:
        await rounds.begin()
        begun.append(name)

    async with trio.open_nursery() as waiting:
        for _ in range(many):
            waiting.start_soon(work, "cancelled")
        await trio.lowlevel.checkpoint()
        nursery.start_soon(work, "stays")
        await trio.lowlevel.checkpoint()
        Place.looks = 0
        waiting.cancel_scope.cancel()
        assert Place.looks <= many
    await trio.testing.wait_all_tasks_blocked()
    assert begun[-1] == "stays"
    assert len(begun) < 20
    for _ in range(2):
        await rounds.begin()


@contextmanager
def backlog(number: int) -> Iterator[trio.SocketListener]:
    """A listener with this many connections in the kernel's line."""
    with closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(number)
        address = listening.getsockname()
        clients = [socket.create_connection(address) for _ in range(number)]
        try:
            yield trio.SocketListener(trio.socket.from_stdlib_socket(listening))
        finally:
            for client in clients:
                client.close()


@contextmanager
def descriptors(more: int) -> Iterator[None]:
    """Let this process have this many more descriptors, and none besides."""
    limits = getrlimit(RLIMIT_NOFILE)
    with closing(socket.socket()) as probe:
        highest = probe.fileno()
    setrlimit(RLIMIT_NOFILE, (highest + more, limits[1]))
    try:
        yield
    finally:
        setrlimit(RLIMIT_NOFILE, limits)


class RoundCounter:
    """Counts the rounds of all tasks."""

    rounds = 0

    async def run(self) -> None:
        while True:
            await trio.lowlevel.checkpoint()
            self.rounds += 1


async def test_near_the_limit_of_descriptors_one_is_accepted_in_a_round(nursery: trio.Nursery) -> None:
    """Those that make room for them are closed in later steps."""
    number, counter = 20, RoundCounter()
    with backlog(number) as listener, descriptors(DESCRIPTORS_KEPT):
        eager = Eager(listener)
        nursery.start_soon(counter.run)
        streams = [await eager.accept() for _ in range(number)]
        assert counter.rounds >= number - 1
        for stream in streams:
            await stream.aclose()
    nursery.cancel_scope.cancel()


async def test_all_that_have_come_are_accepted_in_a_few_rounds(nursery: trio.Nursery) -> None:
    counter = RoundCounter()
    number = 2 * ACCEPTS_MAX + 1
    with backlog(number) as listener:
        eager = Eager(listener)
        nursery.start_soon(counter.run)
        streams = [await eager.accept() for _ in range(number)]
        assert counter.rounds < number / 8
        with trio.move_on_after(0) as waits:
            await eager.accept()
        assert waits.cancelled_caught
        for stream in streams:
            await stream.aclose()
    nursery.cancel_scope.cancel()


async def test_no_descriptor_for_one_more_loses_nobody() -> None:
    number = 20
    with backlog(number) as listener:
        eager = Eager(listener)
        with descriptors(5):
            accepted = [await eager.accept() for _ in range(5)]
            with pytest.raises(OSError, match="Too many open files"):
                await eager.accept()
        with trio.fail_after(60):
            accepted += [await eager.accept() for _ in range(number - 5)]
        for stream in accepted:
            await stream.aclose()
