"""What tells the hot loop which sockets have something: the real poller and the one of the tests do the same."""

import random
import socket

import pytest
import trio
import trio.testing

from bunqueue_trio.config import ENDS_A_TURN, TURN_REQUESTS
from bunqueue_trio.transports.poller import Epoll
from tests.sim import wire
from tests.sim.wire import Connection, Pace, Poller
from tests.stream.hot_world import put

# --- the pollers ------------------------------------------------------------------------------------


class Real:
    """The kernel's poller, and a pair of sockets."""

    def __init__(self) -> None:
        self.poller = Epoll()
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self.stream = trio.SocketStream(trio.socket.from_stdlib_socket(self._ours))
        self.put, self.end = self._theirs.send, self._theirs.close
        self.close = self._ours.close


class Simulated:
    """The simulation's, and a connection."""

    def __init__(self) -> None:
        self.poller = Poller()
        connection = Connection(random.Random(1), Pace(0, 0, 0))
        self.stream = connection.server
        self.put, self.end = lambda data: put(connection.client, data), connection.client.close
        self.close = self.stream.close


@pytest.mark.parametrize("kind", [Real, Simulated])
async def test_a_poller_tells_of_who_is_watched_and_can_be_read(kind: type[Real] | type[Simulated]) -> None:
    side = kind()
    poller, buffer = side.poller, memoryview(bytearray(10))
    number = poller.descriptor_of(side.stream)
    poller.watch(number)
    with pytest.raises(OSError, match=r"."):
        poller.watch(number)
    assert poller.ready(9) == []
    with pytest.raises(BlockingIOError):
        poller.readv(number, [buffer])
    side.put(b"ab")
    with trio.fail_after(60):
        await poller.wait()
        await poller.wait_for(number)
    assert poller.ready(9) == poller.ready(9) == [number]
    assert (poller.readv(number, [buffer]), bytes(buffer[:2])) == (2, b"ab")
    assert poller.write(number, b"x") == 1
    poller.ignore(number)
    side.end()
    assert poller.ready(9) == []  # not even of its end
    poller.watch(number)
    assert poller.ready(9) == [number]
    side.close()
    assert poller.ready(9) == []
    assert poller.descriptor_of(side.stream) == -1
    poller.ignore(number)
    poller.close()
    for closed in (number, -1):
        with pytest.raises((OSError, KeyError)):
            poller.watch(closed)


@pytest.mark.parametrize("kind", [Real, Simulated])
async def test_a_poller_tells_of_an_end_alone_where_it_is_asked_for_that(kind: type[Real] | type[Simulated]) -> None:
    side = kind()
    poller, buffer = side.poller, memoryview(bytearray(10))
    number = poller.descriptor_of(side.stream)
    poller.watch_end(number)
    side.put(b"ab")
    assert poller.ready(9) == []
    poller.ignore(number)
    poller.watch(number)
    assert poller.ready(9) == [number]
    assert poller.readv(number, [buffer]) == 2
    poller.ignore(number)
    poller.watch_end(number)
    with pytest.raises(OSError, match=r"."):
        poller.watch(number)
    side.end()
    with trio.fail_after(60):
        await poller.wait()
    assert poller.ready(9) == poller.ready(9) == [number]
    poller.ignore(number)
    assert poller.ready(9) == []
    side.close()
    with pytest.raises((OSError, KeyError)):
        poller.watch_end(-1)
    poller.close()


@pytest.mark.parametrize("waits", [True, False], ids=["waiting", "idle"])
async def test_a_request_does_not_stand_behind_all_who_hang_up_at_once(waits: bool) -> None:
    sides = [Real() for _ in range(10 * ENDS_A_TURN + 1)]
    poller, (*waiting, asks) = sides[0].poller, sides
    for side in waiting:
        (poller.watch_end if waits else poller.watch)(poller.descriptor_of(side.stream))
    number = poller.descriptor_of(asks.stream)
    poller.watch(number)
    for side in waiting:
        side.end()
    asks.put(b"ab")
    ready = poller.ready(TURN_REQUESTS)
    assert ready[0] == number
    assert len(ready) == 1 + ENDS_A_TURN
    ended = set(ready[1:])
    poller.ignore(number)
    while ready:
        for descriptor in ready:
            poller.ignore(descriptor)
        ready = poller.ready(TURN_REQUESTS)
        ended.update(ready)
    assert ended == {poller.descriptor_of(side.stream) for side in waiting}
    asks.end()
    for side in sides:
        side.close()
        side.poller.close()


async def test_a_request_that_came_first_is_named_at_once_however_many_hang_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel goes on behind those that it has named."""
    most = 4
    monkeypatch.setattr("bunqueue_trio.transports.poller._LOOKED", most)
    sides = [Real() for _ in range(6 * most)]
    poller, (asks, *others) = sides[0].poller, sides
    numbers = [poller.descriptor_of(side.stream) for side in sides]
    for number in numbers:
        poller.watch(number)
    asks.put(b"ab")
    for side in others:
        side.end()
    # Of those who hang up the first ones, and nobody twice.
    assert poller.ready(most) == numbers[: 2 * most]
    asks.end()
    for side in sides:
        side.close()
        side.poller.close()


async def test_only_a_bare_socket_has_a_descriptor() -> None:
    one, _ = trio.testing.memory_stream_pair()
    for poller in (Epoll(), wire.Poller()):
        assert poller.descriptor_of(one) == -1
