"""Texts that come together over a WebSocket, in virtual time: one step runs them, commits them, and answers them."""

import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest
import trio

from bunqueue_trio.api.session import Session
from bunqueue_trio.config import GIVE_UP_S, TURN_LONG_S
from bunqueue_trio.runtime.summons import Summons
from tests.sim.wire import End
from tests.storage.faulty import Fault
from tests.stream.hot_world import Start, World, answer, put
from tests.stream.hot_world import start as start
from tests.stream.ws import BINARY, HANDSHAKE, TEXT, frame


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


class Steps(trio.abc.Instrument):
    """Notes in which step of all tasks each message is taken in, and how long that step is by then; each takes ``cost_s``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cost_s: float) -> None:
        self.messages: list[int] = []
        self.step = 0
        self.longest_s = 0.0
        self._began = 0.0
        take_in, clock = Session.take_in, trio.lowlevel.current_clock()

        def slow(*args: Any) -> None:
            clock.jump(cost_s)  # type: ignore[attr-defined]
            take_in(*args)
            self.messages.append(self.step)
            self.longest_s = max(self.longest_s, clock.current_time() - self._began)

        monkeypatch.setattr(Session, "take_in", slow)
        self._now = clock.current_time

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.step += 1
        self._began = self._now()


@pytest.mark.parametrize("kind", [TEXT, BINARY])
@pytest.mark.parametrize("cost_s", [0.0003, 0.001, 0.005])
async def test_the_step_that_takes_them_in_ends_by_time(
    start: Start, monkeypatch: pytest.MonkeyPatch, kind: int, cost_s: float
) -> None:
    """Whatever they are: a reader may ask for sixty long lists in one packet."""
    world = await start()
    client = await connect(world)
    steps = Steps(monkeypatch, cost_s)
    trio.lowlevel.add_instrument(steps)
    try:
        texts = [b'{"cmd":"PUSH","queue":"q","reqId":%d,"data":1}' % n for n in range(2, 62)]
        put(client, b"".join(frame(kind, text) for text in texts))
        heard = b""
        while len(answered(heard)) < 60:
            heard += await answer(client)
    finally:
        trio.lowlevel.remove_instrument(steps)
    assert answered(heard) == list(range(2, 62))
    assert steps.longest_s <= TURN_LONG_S + 2 * cost_s
    # One that costs no more than others is not taken in by itself.
    assert max(steps.messages.count(step) for step in steps.messages) >= min(6, TURN_LONG_S // cost_s)


async def test_others_are_served_between_those_that_take_long(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    world = await start()
    clients = [await connect(world) for _ in range(20)]
    steps = Steps(monkeypatch, 0.005)
    done: list[int] = []
    for client in clients:
        put(client, pushes(2, 6))
    for _ in range(20):
        await trio.lowlevel.checkpoint()
        done.append(len(steps.messages))
    # Two or three of them begin in a round of all tasks, not one on each connection.
    assert max(after - before for before, after in itertools.pairwise(done)) <= 4
    for client in clients:
        heard = b""
        while len(answered(heard)) < 5:
            heard += await answer(client)
        assert answered(heard) == list(range(2, 7))


async def test_a_look_that_comes_with_them_waits_for_no_other_change_where_the_disk_refuses_them_at_first(
    start: Start,
) -> None:
    """It commits what was done before it: at the end of the step nothing is left of which the flusher would hear."""
    world = await start()
    client = await connect(world)
    world.store.commits = iter([Fault.REFUSED])
    put(client, pushes(2, 3) + frame(TEXT, b'{"cmd":"Dlq","queue":"q","reqId":4}') + pushes(5, 5))
    await trio.sleep(1)
    assert answered(await answer(client)) == [2, 3, 4, 5]
