"""The link between a door and the leader of its machine: what is handed over, and what a door does when it is told, or alone."""

import socket
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import trio
import trio.testing

from bunqueue_trio.config import CLIENT_KEY_MAX, Settings
from bunqueue_trio.doors.accepting import Stop, accept
from bunqueue_trio.doors.lane import FramingDoor
from bunqueue_trio.doors.link import STOP, LinkLost, LocalLink, receive_connections
from bunqueue_trio.transports.sockets import close_all, open_listeners


class Both(NamedTuple):
    """The ends of a link."""

    door: LocalLink
    leader: trio.socket.SocketType


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
        receive_connections, both.leader, lambda stream, address: received.append((stream, address)), closed.set
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
    await receive_connections(both.leader, lambda _stream, _address: None, lambda: None)


async def test_a_door_that_stops_hands_over_what_it_has_accepted_and_ends_with_it(both: Both):
    [listener], [url] = await open_listeners(Settings(bind=("127.0.0.1:0",)))
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
            receive_connections, both.leader, lambda stream, _address: received.append(stream), closed.set
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
    doors: list[list[socket.socket]] = [[], [], []]
    listeners, [one, other] = await open_listeners(Settings(bind=("127.0.0.1:0", "[::1]:0")), doors)
    assert listeners == []
    names = {tuple(str(sock.getsockname()) for sock in sockets) for sockets in doors}
    assert len(names) == 1, "the same place for all"
    assert one.startswith("http://127.0.0.1:")
    assert other.startswith("http://[::1]:")
    assert [len(sockets) for sockets in doors] == [2, 2, 2]
    for sockets in doors:
        close_all(sockets)
