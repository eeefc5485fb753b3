"""Texts that come together over a WebSocket, in virtual time: one step runs them, commits them, and answers them."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import trio

from bunqueue_trio.config import GIVE_UP_S
from bunqueue_trio.runtime.summons import Summons
from tests.sim.wire import End
from tests.storage.faulty import Fault
from tests.stream.hot_world import Start, World, answer, put
from tests.stream.hot_world import start as start
from tests.stream.ws import HANDSHAKE, TEXT, frame


def pushes(first: int, last: int) -> bytes:
    return b"".join(frame(TEXT, b'{"cmd":"PUSH","queue":"q","reqId":%d,"data":1}' % n) for n in range(first, last + 1))


def answered(data: bytes, *, ok: bool = True) -> list[int]:
    said = rb'\{"ok":%s[^}]*"reqId":(\d+)\}' % (b"true" if ok else b"false")
    return [int(number) for number in re.findall(said, data)]


async def connect(world: World) -> End:
    """A WebSocket that was the last one to change something: the next commit is not shared with anybody."""
    client = await world.connect()
    put(client, HANDSHAKE.format(path="/ws/queues/other").encode())
    assert b"101" in await answer(client)
    put(client, pushes(1, 1))
    assert answered(await answer(client)) == [1]
    return client


@pytest.fixture
def summons(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How often the flusher is summoned."""
    sent: list[str] = []

    def note(name: str) -> Callable[..., Any]:
        do = getattr(Summons, name)
        return lambda self: (sent.append(name), do(self))

    for name in ("send", "hurry"):
        monkeypatch.setattr(Summons, name, note(name))
    return sent


async def test_they_are_one_commit_of_their_own_step(start: Start, summons: list[str]) -> None:
    world = await start()
    client = await connect(world)
    before = world.server.journal.commits
    summons.clear()
    put(client, pushes(2, 31))
    assert answered(await answer(client)) == list(range(2, 32))
    assert world.server.journal.commits == before + 1
    assert summons == []


async def test_those_of_two_sockets_share_a_commit(start: Start) -> None:
    world = await start()
    one, other = await connect(world), await connect(world)
    # Then neither of them is the one who was the last to change something.
    await world.push()
    before = world.server.journal.commits
    put(one, pushes(2, 9))
    put(other, pushes(2, 9))
    for client in (one, other):
        assert answered(await answer(client)) == list(range(2, 10))
    assert world.server.journal.commits == before + 1


async def test_what_their_step_cannot_commit_is_committed_later(start: Start) -> None:
    world = await start()
    client = await connect(world)
    world.store.commits = iter([Fault.REFUSED] * 3)
    put(client, pushes(2, 9))
    assert await answer(client) == b""
    await trio.sleep(1)
    assert answered(await answer(client)) == list(range(2, 10))


async def test_what_no_disk_takes_is_refused(start: Start) -> None:
    world = await start()
    client = await connect(world)
    world.store.commits = iter([Fault.REFUSED] * 1000)
    put(client, pushes(2, 9))
    await trio.sleep(GIVE_UP_S + 1)
    assert answered(await answer(client), ok=False) == list(range(2, 10))
    world.store.commits = iter([])
    await trio.sleep(1)


async def test_one_that_has_to_wait_comes_in_its_place(start: Start) -> None:
    world = await start()
    client = await connect(world)
    bulk = b'{"cmd":"PUSHB","queue":"q","reqId":10,"jobs":[%b]}' % b",".join([b'{"data":1}'] * 500)
    put(client, pushes(2, 9) + frame(TEXT, bulk) + pushes(11, 20))
    heard = b""
    while len(answered(heard)) < 19:
        heard += await answer(client)
    assert answered(heard) == list(range(2, 21))
