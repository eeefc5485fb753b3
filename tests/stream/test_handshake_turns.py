"""Whose TLS handshake is next: addresses take turns, so that a flood from one keeps nobody else waiting."""

import random
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from bunqueue_trio.transports import tls
from bunqueue_trio.transports.tls import Turns


async def take(turns: Turns, address: bytes, told: list[bytes]) -> None:
    await turns.begin(address)
    try:
        told.append(address)
        await trio.lowlevel.checkpoint()
    finally:
        turns.end()


async def test_whoever_comes_behind_a_flood_of_another_address_waits_for_a_round_or_two(nursery: trio.Nursery):
    turns, told = Turns(4), list[bytes]()
    for _ in range(1000):
        nursery.start_soon(take, turns, b"flood", told)
    await trio.lowlevel.checkpoint()
    before = len(told)
    await take(turns, b"lone", told)
    assert told.index(b"lone") - before <= 2 * 4
    for _ in range(1001):
        await trio.lowlevel.checkpoint()
    assert len(told) == 1001


async def test_of_one_address_who_came_first_is_served_first_and_addresses_take_turns(nursery: trio.Nursery):
    turns, told = Turns(1), list[bytes]()
    await turns.begin(b"")
    for name in (b"a1", b"a2", b"a3", b"b1", b"c1", b"b2"):

        async def one(name: bytes = name) -> None:
            await turns.begin(name[:1])
            told.append(name)
            turns.end()

        nursery.start_soon(one)
        await wait_all_tasks_blocked()
    turns.end()
    await wait_all_tasks_blocked()
    assert told == [b"a1", b"b1", b"c1", b"a2", b"b2", b"a3"]
    assert turns.left == 1


async def test_no_turn_is_lost_whenever_somebody_gives_up():
    rng = random.Random(7)
    turns = Turns(3)
    async with trio.open_nursery() as nursery:
        for n in range(300):

            async def one(n: int = n) -> None:
                with trio.CancelScope() as scope:
                    if rng.random() < 0.5:
                        nursery.start_soon(cancel_soon, scope, rng.randrange(20))
                    await take(turns, b"%d" % (n % 7), [])

            nursery.start_soon(one)
    assert (turns.left, turns._lines) == (3, {})


async def cancel_soon(scope: trio.CancelScope, rounds: int) -> None:
    for _ in range(rounds):
        await trio.lowlevel.checkpoint()
    scope.cancel()


def socket_from(name: Any) -> Any:
    return SimpleNamespace(socket=SimpleNamespace(getpeername=lambda: name))


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        (("10.0.0.1", 1), ("10.0.0.1", 2), True),
        (("10.0.0.1", 1), ("10.0.0.2", 1), False),
        (("::ffff:10.0.0.1", 1, 0, 0), ("10.0.0.1", 2), True),
        (("2001:db8::1", 1, 0, 0), ("2001:db8::2", 1, 0, 0), True),
        (("2001:db8::1", 1, 0, 0), ("2001:db8:0:1::1", 1, 0, 0), False),
        (("fe80::1%eth0", 1, 0, 2), ("fe80::2", 1, 0, 0), True),
        ("", b"", True),
    ],
)
def test_an_address_is_one_client_or_its_network(one: Any, other: Any, is_same: bool):
    assert (tls._address_of(socket_from(one)) == tls._address_of(socket_from(other))) is is_same


def test_what_is_no_socket_has_no_address():
    nothing: Any = SimpleNamespace()
    assert tls._address_of(nothing) == tls._address_of(socket_from("")) == b""
