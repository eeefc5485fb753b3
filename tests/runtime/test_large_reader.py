"""A large command is read in steps, in a line of its size, and leaves the others their share."""

import math
from collections import Counter
from collections.abc import Callable, Generator
from functools import cache, partial
from typing import Any, NamedTuple

import pytest
import trio
import trio.testing

from bunqueue_trio.api import bulk
from bunqueue_trio.api.bulk import IsGone, LargeReader
from bunqueue_trio.config import MIB, TURN_S
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import walk
from bunqueue_trio.protocol.codec import BadMessage
from bunqueue_trio.protocol.parts import PARTS_FROM
from bunqueue_trio.runtime.half import Half

MESSAGE = b'{"cmd":"Ping","x":[%s1]}' % (b"[1]," * 300_000)


class OfAJournal:
    """What the reader asks of one; where it is busy, others change something in every round."""

    def __init__(self, *, is_busy: bool = False) -> None:
        self.half = Half()
        self._is_busy = is_busy
        self._committed = 0

    @property
    def committed(self) -> int:
        self._committed += self._is_busy
        return self._committed


def reader(*, is_busy: bool = False) -> LargeReader:
    journal: Any = OfAJournal(is_busy=is_busy)
    return LargeReader(journal)


class Rounds(trio.abc.Instrument):
    """Counts the rounds of all tasks."""

    def __init__(self) -> None:
        self.number = 0

    def after_io_wait(self, timeout: float) -> None:
        self.number += 1


class Step(NamedTuple):
    round: int
    size: int


@pytest.fixture
async def steps(monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """The steps of commands, as they are done; each command has as many as it has pieces."""
    done: list[Step] = []
    rounds = Rounds()
    trio.lowlevel.add_instrument(rounds)

    def read(_kind: object, text: bytes, *_: object) -> Generator[None, None, c.Command]:
        for _piece in range(0, len(text), walk.PIECE):
            done.append(Step(rounds.number, len(text)))
            yield
        return c.Ping()

    monkeypatch.setattr(bulk, "read_in_parts", read)
    return done


@cache
def blank(size: int) -> bytes:
    return b" " * size


async def pass_rounds() -> None:
    """Let all tasks run for a while."""
    for _ in range(30):
        await trio.lowlevel.checkpoint()


def body(size: int, large: LargeReader, is_gone: IsGone | None = None, *, fills: bool = False) -> Callable[[], Any]:
    """Return what reads a body of ``size`` bytes."""
    return partial(large.read, c.Ping, blank(size), lambda _: c.Ping(), is_gone, fills=fills)


@pytest.mark.parametrize("fills", [True, False])
@pytest.mark.parametrize("is_busy", [True, False])
async def test_it_rests_after_each_step_in_whose_round_others_change_something(
    autojump_clock: trio.testing.MockClock, is_busy: bool, fills: bool
):
    begun = trio.current_time()
    found = await reader(is_busy=is_busy).read_message(MESSAGE, None, fills=fills)
    assert isinstance(found, c.Ping)
    rested = trio.current_time() - begun
    assert rested >= 0.001 * (len(MESSAGE) // walk.PIECE) if is_busy else rested == 0


@pytest.mark.parametrize("fills", [True, False])
@pytest.mark.parametrize("size", [40_000, PARTS_FROM, MIB])
async def test_a_command_stands_behind_none_that_is_much_larger(
    nursery: trio.Nursery, steps: list[Step], size: int, fills: bool
):
    large = reader()
    for _ in range(20):
        nursery.start_soon(body(10 * MIB, large, fills=fills))
    await pass_rounds()
    before = len(steps)
    await body(size, large, fills=fills)()
    own = [step for step in steps[before:] if step.size == size]
    assert len(own) == math.ceil(size / walk.PIECE)
    assert len(steps) - before <= 2 * len(own) + 4
    nursery.cancel_scope.cancel()


async def test_commands_of_all_sizes_together_are_read_one_step_in_a_round(nursery: trio.Nursery, steps: list[Step]):
    large = reader()
    sizes = [40_000, PARTS_FROM, MIB, 10 * MIB]
    for size in sizes * 3:
        for fills in (True, False):
            nursery.start_soon(body(size, large, fills=fills))
    await trio.testing.wait_all_tasks_blocked()
    assert sum(step.size == 10 * MIB for step in steps) == 6 * math.ceil(10 * MIB / walk.PIECE)
    assert max(Counter(step.round for step in steps).values()) == 1


async def test_who_has_waited_in_line_for_two_seconds_is_refused(autojump_clock: trio.testing.MockClock):
    large, slow = reader(), trio.Event()
    large._journal.half.written = slow
    begun = trio.current_time()
    async with trio.open_nursery() as nursery:
        # A step of it waits for a batch each time.
        nursery.start_soon(body(10 * MIB, large))
        await trio.sleep(0.1)
        with pytest.raises(Refused, match="too many large requests") as refused:
            await body(2 * MIB, large, fills=True)()
        assert (refused.value.status, refused.value.retry_after) == (503, 1)
        assert trio.current_time() - begun == pytest.approx(0.1 + TURN_S)
        slow.set()
    # There is nobody in the line any more.
    await body(2 * MIB, large)()


async def test_a_websocket_waits_in_line_without_an_end(autojump_clock: trio.testing.MockClock):
    large, slow = reader(), trio.Event()
    large._journal.half.written = slow
    async with trio.open_nursery() as nursery:
        nursery.start_soon(body(10 * MIB, large))
        await trio.sleep(0.1)
        nursery.start_soon(expect_ping, large)
        await trio.sleep(5 * TURN_S)
        slow.set()


async def expect_ping(large: LargeReader) -> None:
    assert isinstance(await large.read_message(MESSAGE, None, fills=False), c.Ping)


@pytest.mark.parametrize("is_gone", [True, False])
@pytest.mark.parametrize("by_websocket", [True, False])
async def test_who_has_gone_while_it_stood_in_line_is_not_read(
    nursery: trio.Nursery, steps: list[Step], by_websocket: bool, is_gone: bool
):
    large = reader()
    nursery.start_soon(body(10 * MIB, large))
    await pass_rounds()
    if by_websocket:
        found = await large.read_message(blank(2 * MIB), lambda: is_gone, fills=False)
        assert isinstance(found, BadMessage) is is_gone
    elif is_gone:
        with pytest.raises(Refused):
            await body(2 * MIB, large, lambda: True)()
    else:
        await body(2 * MIB, large, lambda: False)()
    assert (2 * MIB in {step.size for step in steps}) is not is_gone


async def test_who_stood_in_no_line_is_read_whether_it_has_gone_or_not(steps: list[Step]):
    await body(2 * MIB, reader(), lambda: True)()
    assert steps
