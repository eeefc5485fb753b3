"""Who may link: both sides show that they know the key, and no byte too many is read. In virtual time."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from bunqueue_trio.config import CLIENT_KEY_MAX, LINK_HANDSHAKE_S, Settings
from bunqueue_trio.doors.handshake import MAGIC, Distrusted, admit_door, prove_door
from bunqueue_trio.doors.remote import RemoteDoors
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.storage.memory import MemoryStore

KEY, OTHER = b"k" * 32, b"o" * 32
Act = Callable[[trio.abc.Stream], Awaitable[object]]


async def both(door: Act, leader: Act) -> dict[str, Any]:
    """Run both sides against each other; what each returned, or how it failed. Who fails closes."""
    mine, its = trio.testing.memory_stream_pair()
    ended: dict[str, Any] = {}

    async def run(name: str, act: Act, stream: trio.abc.Stream) -> None:
        try:
            ended[name] = await act(stream)
        except (Distrusted, trio.BrokenResourceError) as error:
            ended[name] = error
            await stream.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, "door", door, mine)
        nursery.start_soon(run, "leader", leader, its)
    return ended


def door(key: bytes = KEY, address: str = "10.0.0.7") -> Act:
    return lambda stream: prove_door(stream, key, address)


def leader(key: bytes = KEY) -> Act:
    return lambda stream: admit_door(stream, key)


async def test_who_knows_the_key_learns_whom_it_is_for(autojump_clock: trio.testing.MockClock):
    assert await both(door(), leader()) == {"door": None, "leader": "10.0.0.7"}
    assert await both(door(address=""), leader()) == {"door": None, "leader": ""}
    assert (await both(door(address="x" * 999), leader()))["leader"] == "x" * CLIENT_KEY_MAX


async def test_what_the_client_says_behind_it_is_left_for_who_serves_it(autojump_clock: trio.testing.MockClock):
    async def hasty(stream: trio.abc.Stream) -> None:
        await prove_door(stream, KEY, "a")
        await stream.send_all(b"GET / HTTP/1.1")

    async def admitted(stream: trio.abc.Stream) -> bytes:
        await admit_door(stream, KEY)
        return bytes(await stream.receive_some(100))

    assert (await both(hasty, admitted))["leader"] == b"GET / HTTP/1.1"


async def test_a_door_tells_a_stranger_nothing(autojump_clock: trio.testing.MockClock):
    heard = bytearray()

    async def stranger(stream: trio.abc.Stream) -> None:
        heard.extend(await stream.receive_some(100))
        await stream.send_all(b"x" * 48)
        heard.extend(await stream.receive_some(100))

    ended = await both(door(address="secret"), stranger)
    assert isinstance(ended["door"], Distrusted)
    assert len(heard) == len(MAGIC) + 16


@pytest.mark.parametrize("key", [OTHER, b""])
async def test_who_does_not_know_the_key_is_no_door(autojump_clock: trio.testing.MockClock, key: bytes):
    async def liar(stream: trio.abc.Stream) -> None:
        await stream.send_all(MAGIC + b"n" * 16)
        await stream.receive_some(48)
        await stream.send_all(b"p" * 32 + b"\x03abc")
        await stream.receive_some(1)

    assert isinstance((await both(liar, leader()))["leader"], Distrusted)
    ended = await both(door(key), leader())
    assert isinstance(ended["door"], Distrusted)
    assert isinstance(ended["leader"], trio.BrokenResourceError)


async def test_an_address_is_covered_by_the_proof_and_bounded(autojump_clock: trio.testing.MockClock):
    async def changed(stream: trio.abc.Stream) -> None:
        ours, its = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(prove_door, its, KEY, "10.0.0.7")
            await stream.send_all(await ours.receive_some(100))
            await ours.send_all(await stream.receive_some(100))
            said = bytes(await ours.receive_some(100))
            await stream.send_all(said.replace(b"10.0.0.7", b"10.0.0.8"))
        await stream.receive_some(1)

    assert isinstance((await both(changed, leader()))["leader"], Distrusted)

    async def long(stream: trio.abc.Stream) -> None:
        await stream.send_all(MAGIC + b"n" * 16)
        await stream.receive_some(48)
        await stream.send_all(b"p" * 32 + b"\xff")
        await stream.receive_some(1)

    ended = await both(long, leader())
    assert (type(ended["leader"]), str(ended["leader"])) == (Distrusted, "it says too much")


async def test_something_else_is_noticed_and_what_comes_slowly_is_left(autojump_clock: trio.testing.MockClock):
    async def http(stream: trio.abc.Stream) -> None:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
        await stream.receive_some(1)

    assert str((await both(http, leader()))["leader"]) == "it speaks something else"
    doors = RemoteDoors(Server(Settings(), MemoryStore(), Clock()), [], KEY)
    for said in (b"", MAGIC, MAGIC + b"n" * 16):
        mine, its = trio.testing.memory_stream_pair()
        begun = trio.current_time()
        await mine.send_all(said)
        assert await doors.greet(its) is None
        assert trio.current_time() - begun == LINK_HANDSHAKE_S
        with pytest.raises(trio.BrokenResourceError):
            await mine.send_all(b"x")
