"""The link between a door and the leader of its machine: what is handed over, and what a door does when it is asked to, or alone."""

import socket
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import pairwise
from typing import Any, NamedTuple, NoReturn

import pytest
import trio
import trio.testing

from bunqueue_trio.config import CLIENT_KEY_MAX, DOOR_LOOK_S, DOOR_LOOKS, DOOR_START_LOOKS, DOOR_STARTS_S, Settings
from bunqueue_trio.doors.accepting import Stop, accept
from bunqueue_trio.doors.lane import FramingDoor
from bunqueue_trio.doors.leading import DoorProcesses, _Process, watch
from bunqueue_trio.doors.link import STOP, LinkLost, LocalLink, receive_connections
from bunqueue_trio.errors import DoorLost
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.statistics import Doors
from bunqueue_trio.runtime.supervisor import Child
from bunqueue_trio.transports.sockets import listen_again, listen_no_more, open_listeners


class Both(NamedTuple):
    """The ends of a link."""

    door: LocalLink
    leader: trio.socket.SocketType


def nothing() -> None:
    """Hear something, and do nothing."""


@pytest.fixture
def both() -> Iterator[Both]:
    its, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its, ours:
        yield Both(LocalLink(trio.socket.from_stdlib_socket(its)), trio.socket.from_stdlib_socket(ours))


async def test_connections_come_with_the_address_of_their_client(both: Both, nursery: trio.Nursery):
    received: list[tuple[trio.SocketStream, str]] = []
    addresses = ["127.0.0.1", "fe80::1%eth0", "unix", "", "x" * 999]
    ends = [await both.door.open(address) for address in addresses]
    await both.door.say_closed()
    closed = trio.Event()
    nursery.start_soon(
        receive_connections,
        both.leader,
        lambda stream, address: received.append((stream, address)),
        closed.set,
        nothing,
    )
    await closed.wait()
    assert [address for _, address in received] == [*addresses[:-1], "x" * CLIENT_KEY_MAX]
    for number, (end, (stream, _)) in enumerate(zip(ends, received, strict=True)):
        await end.send_all(b"%d" % number)
        assert await stream.receive_some(10) == b"%d" % number
        await stream.aclose()
        assert await end.receive_some(1) == b""
        await end.aclose()
    async with await both.door.open("127.0.0.1"):
        await trio.testing.wait_all_tasks_blocked()
        stream, address = received[-1]
        assert address == "127.0.0.1", "what it has may still be passed on"
        await stream.aclose()
    nursery.cancel_scope.cancel()


async def test_a_door_hears_the_stop_and_the_end_of_its_leader(both: Both):
    told: list[str] = []
    await both.leader.send(STOP)
    both.leader.close()
    await both.door.hear(lambda: told.append("stop"))
    assert told == ["stop"]
    with pytest.raises(LinkLost):
        await both.door.open("127.0.0.1")
    await both.door.say_closed()


async def test_a_leader_sees_the_end_of_a_door_that_is_gone(both: Both):
    await both.leader.send(STOP)  # which it never reads
    both.door._control.close()
    await receive_connections(both.leader, lambda _stream, _address: None, nothing, nothing)


async def test_a_door_that_stops_hands_over_what_it_has_accepted_and_ends_with_it(both: Both):
    [listener], [url], _ = await open_listeners(Settings(bind=("127.0.0.1:0",)))
    address = url.removeprefix("http://").split(":")
    stop, received, closed = Stop(), list[trio.SocketStream](), trio.Event()
    async with trio.open_nursery() as nursery:
        over = trio.Event()

        async def run() -> None:
            door = FramingDoor(both.door, Settings(express=False))
            await accept([listener], door, stop, 30, both.door.say_closed)
            over.set()

        nursery.start_soon(run)
        stop.wanted.set()
        client = await trio.open_tcp_stream(address[0], int(address[1]))
        nursery.start_soon(
            receive_connections, both.leader, lambda stream, _address: received.append(stream), closed.set, nothing
        )
        await closed.wait()
        [stream] = received
        with pytest.raises(OSError, match="all attempts to connect"):
            await trio.open_tcp_stream(address[0], int(address[1]))
        await client.send_all(b"hello")
        assert await stream.receive_some(10) == b"hello"
        assert not over.is_set()
        await stream.send_all(b"bye")
        await stream.aclose()
        assert await client.receive_some(10) == b"bye"
        await client.aclose()
        with trio.fail_after(60):
            await over.wait()
        nursery.cancel_scope.cancel()


async def test_each_door_gets_its_own_sockets_at_the_same_addresses():
    opened = await open_listeners(Settings(bind=("127.0.0.1:0", "[::1]:0")), 3)
    [one, other], doors = opened.addresses, opened.dealt
    assert opened.listeners == []
    names = {tuple(str(sock.getsockname()) for sock in sockets) for sockets in doors}
    assert len(names) == 1, "the same place for all"
    assert one.startswith("http://127.0.0.1:")
    assert other.startswith("http://[::1]:")
    assert [len(sockets) for sockets in doors] == [2, 2, 2]
    await opened.close()
    assert doors == [[], [], []]


@pytest.mark.parametrize("is_chosen", [True, False])
async def test_nobody_is_dealt_to_a_socket_that_does_not_listen_and_its_address_stays(is_chosen: bool):
    opened = await open_listeners(Settings(bind=("127.0.0.1:0",)), 2)
    [one], [other] = opened.dealt
    place = one.getsockname()
    if not is_chosen:
        await opened.close()
        opened = await open_listeners(Settings(bind=(f"127.0.0.1:{place[1]}",)), 2)
        [one], [other] = opened.dealt

    def dealt() -> tuple[int, int]:
        ends = [socket.create_connection(place) for _ in range(20)]
        counts = []
        for sock in (one, other):
            sock.setblocking(False)
            accepted = 0
            with suppress(BlockingIOError, OSError):
                while True:
                    sock.accept()[0].close()
                    accepted += 1
            counts.append(accepted)
        for end in ends:
            end.close()
        return counts[0], counts[1]

    assert min(dealt()) > 0, "once in half a million runs it is 0"
    listen_no_more([one])
    assert dealt() == (0, 20)
    listen_no_more([one, other])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(place)
    with closing(socket.socket()) as thief, pytest.raises(OSError, match="in use"):
        thief.bind(place)
    for sock in (other, one):
        listen_again(sock)
    assert min(dealt()) > 0
    await opened.close()


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_who_listens_again_hears_however_often_it_was_to_listen_no_more(times: int):
    """A door whose start has failed some times is asked something when it is back."""
    opened = await open_listeners(Settings(bind=("127.0.0.1:0",)), 1)
    [[sock]] = opened.dealt
    for _ in range(times):
        listen_no_more([sock])
    listen_again(sock).setblocking(True)
    with closing(socket.create_connection(sock.getsockname())) as client, closing(sock.accept()[0]) as heard:
        heard.setblocking(False)
        with pytest.raises(BlockingIOError):
            heard.recv(1)
        client.sendall(b"?")
        heard.setblocking(True)
        assert heard.recv(1) == b"?"
    await opened.close()


class Watched(_Process):
    """A process that is only looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.killed = trio.Event()
        self.heard = 0

    def note_here(self) -> None:
        super().note_here()
        self.heard += 1

    def kill(self) -> None:
        self.killed.set()


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for it, in a time in which nothing else happens."""
    for _ in range(10_000):
        if is_so():
            return
        await trio.testing.wait_all_tasks_blocked()
    raise AssertionError("it does not happen")


@pytest.fixture
def clock(mock_clock: trio.testing.MockClock) -> trio.testing.MockClock:
    return mock_clock


async def test_a_door_that_answers_is_left_alone_and_one_that_hangs_is_ended(
    both: Both, nursery: trio.Nursery, clock: trio.testing.MockClock
):
    process = Watched()
    nursery.start_soon(receive_connections, both.leader, lambda _stream, _address: None, nothing, process.note_here)
    nursery.start_soon(watch, 7, process, both.leader)
    alive = trio.CancelScope()
    nursery.start_soon(hear, both.door, alive)
    for n in range(1, 3 * DOOR_LOOKS):
        await until(lambda n=n: process.heard == n)  # type: ignore[misc]
        clock.jump(DOOR_LOOK_S)
    await until(lambda: process.heard == 3 * DOOR_LOOKS)
    alive.cancel()
    for silent in range(1, DOOR_LOOKS + 1):
        assert not process.killed.is_set()
        clock.jump(DOOR_LOOK_S)
        await until(lambda silent=silent: process.looks == silent)  # type: ignore[misc]
    clock.jump(DOOR_LOOK_S)
    await until(process.killed.is_set)
    assert process.hung
    nursery.cancel_scope.cancel()


async def test_a_door_that_hands_over_connections_does_not_hang(
    both: Both, nursery: trio.Nursery, clock: trio.testing.MockClock
):
    """Its answers to looks stand behind them: when thousands of clients come at once that takes a while."""
    process = Watched()
    nursery.start_soon(
        receive_connections, both.leader, lambda stream, _: stream.socket.close(), nothing, process.note_here
    )
    nursery.start_soon(watch, 7, process, both.leader)
    for n in range(1, DOOR_START_LOOKS + 3 * DOOR_LOOKS):
        (await both.door.open("127.0.0.1")).socket.close()
        await until(lambda n=n: process.heard == n)  # type: ignore[misc]
        clock.jump(DOOR_LOOK_S)
        await trio.testing.wait_all_tasks_blocked()
    assert not process.killed.is_set()
    nursery.cancel_scope.cancel()


async def test_a_door_that_does_not_reach_its_leader_says_so_once_and_once_that_it_does_again(
    both: Both, monkeypatch: pytest.MonkeyPatch, logs: list[dict[str, Any]], autojump_clock: trio.testing.MockClock
):
    """Where some get through in between there is one such pair a minute."""

    def none_left() -> NoReturn:
        raise OSError(24, "Too many open files")

    async def fail(times: int) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socketpair", none_left)
            for _ in range(times):
                with pytest.raises(LinkLost):
                    await both.door.open("frames")

    async def reach() -> None:
        await (await both.door.open("frames")).aclose()

    await reach()
    await fail(30)
    await reach()
    await fail(3)
    await reach()
    said = [(line["log_level"], line.get("error")) for line in logs]
    assert said == [("warning", "[Errno 24] Too many open files"), ("info", None)]
    await trio.sleep(61)
    await fail(2)
    await reach()
    assert len(logs) == 4


async def hear(door: LocalLink, until: trio.CancelScope) -> None:
    """Be a door, until it hangs."""
    with until:
        await door.hear(nothing)


async def test_a_door_that_hangs_for_a_while_is_left_alone(
    both: Both, nursery: trio.Nursery, clock: trio.testing.MockClock
):
    """As one does that has a long step, or, for longer, one that only starts."""
    process, hanging = Watched(), trio.CancelScope()
    nursery.start_soon(receive_connections, both.leader, lambda _stream, _address: None, nothing, process.note_here)
    nursery.start_soon(watch, 7, process, both.leader)
    for silent in range(1 - DOOR_START_LOOKS, DOOR_LOOKS + 1):
        await until(lambda silent=silent: process.looks == silent)  # type: ignore[misc]
        if silent < DOOR_LOOKS:
            clock.jump(DOOR_LOOK_S)
    nursery.start_soon(hear, both.door, hanging)
    await until(lambda: process.looks == 0)
    clock.jump(DOOR_LOOK_S)
    await until(lambda: process.heard > DOOR_LOOKS)
    assert not process.killed.is_set()
    nursery.cancel_scope.cancel()


async def test_a_door_that_is_gone_is_not_looked_at(both: Both):
    process = Watched()
    both.door._control.close()
    await watch(7, process, both.leader)
    assert not process.hung


class Leader:
    """What doors ask of their server."""

    def __init__(self) -> None:
        self.stop = trio.Event()
        self.doors = Doors()
        self.clock = Clock(1_000_000)


def ended(code: int, *, was_open: bool) -> _Process:
    process = _Process()
    process.code, process.is_open = code, was_open
    process.over.set()
    return process


async def test_a_door_that_cannot_be_started_is_tried_again_for_as_long_as_it_takes(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, logs: list[dict[str, Any]]
):
    leader, opened = Leader(), await open_listeners(Settings(bind=("127.0.0.1:0",)), 1)
    processes = DoorProcesses(leader, opened.dealt)  # type: ignore[arg-type]
    [door] = processes._doors
    place = door.sockets[0].getsockname()
    tries: list[float] = []
    ways: list[Any] = [
        OSError(24, "Too many open files"),
        RuntimeError("can't start new thread"),
        *[ended(2, was_open=False)] * 8,
    ]

    async def live() -> _Process:
        tries.append(trio.current_time())
        what = ways[len(tries) - 1] if len(tries) <= len(ways) else _Process()
        if isinstance(what, Exception):
            raise what
        return what

    child = Child("door 1", trio.sleep_forever)
    nursery.start_soon(processes._run, door, child, live)
    socket.create_connection(place).close()
    await trio.sleep(80)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(place)
    assert len(tries) == len(ways) + 1, "it is open now"
    pauses = [after - before for before, after in pairwise(tries)]
    assert pauses == pytest.approx([*DOOR_STARTS_S, *[DOOR_STARTS_S[-1]] * 5])
    assert (child.state, child.restarts, child.last_error) == (
        "running",
        10,
        "its process ended with 2 before it was open",
    )
    assert (leader.doors.died, leader.doors.lately[-1].was_open) == (10, False)
    assert [line["error"] for line in logs] == ["could not be started: [Errno 24] Too many open files"], (
        "within a minute"
    )
    await opened.close()


@pytest.mark.parametrize("process", [ended(-9, was_open=False), ended(1, was_open=True)])
async def test_a_door_that_dies_is_none_that_cannot_be_started(process: _Process):
    leader = Leader()
    processes = DoorProcesses(leader, [[]])  # type: ignore[arg-type]

    async def live() -> _Process:
        await trio.lowlevel.checkpoint()
        return process

    with pytest.raises(DoorLost):
        await processes._run(processes._doors[0], Child("door 1", trio.sleep_forever), live)
    assert leader.doors.lately[-1].was_open


async def test_a_stop_waits_for_no_door_that_cannot_be_started(autojump_clock: trio.testing.MockClock):
    leader = Leader()
    processes = DoorProcesses(leader, [[]])  # type: ignore[arg-type]

    async def live() -> _Process:
        await trio.lowlevel.checkpoint()
        return ended(2, was_open=False)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(processes._run, processes._doors[0], Child("door 1", trio.sleep_forever), live)
        await trio.sleep(30)
        leader.stop.set()
    assert trio.current_time() < 31
