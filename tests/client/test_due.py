"""When answers are due: one alarm for all questions of a connection, and each ends in its own time."""

import sys
from types import FrameType

import pytest
import trio
import trio.testing

from bunqueue_trio.client import Client, ConnectionLost
from tests.client.test_mute import Place, deaf
from tests.client.test_strangers import yes


async def test_each_command_ends_with_its_own_time_though_one_alarm_is_for_all(
    autojump_clock: trio.testing.MockClock,
):
    """A later one may be due before: a waiting pull has its time beside the patience."""
    ended: dict[str, float] = {}

    async def ask(client: Client, name: str, after: float, waits: float) -> None:
        await trio.sleep(after)
        with pytest.raises(ConnectionLost):
            await client.pull(name, timeout=waits)
        ended[name] = round(trio.current_time() - began)

    async with Client("ws://mute", patience=5, connect=Place(deaf).connect) as client, trio.open_nursery() as nursery:
        began = trio.current_time()
        for name, after, waits in (("long", 0, 30), ("short", 1, 1), ("next", 2, 0), ("last", 20, 20)):
            nursery.start_soon(ask, client, name, after, waits)
    assert ended == {"short": 7, "next": 7, "long": 35, "last": 45}


async def test_a_command_that_is_answered_has_no_timer_of_its_own():
    """It would cost each push more than its message."""
    entered = 0

    def note(frame: FrameType, event: str, _: object) -> None:
        nonlocal entered
        if event == "call" and frame.f_code.co_qualname == "CancelScope.__enter__" and frame.f_back is not None:
            entered += "bunqueue_trio/client" in frame.f_back.f_code.co_filename

    async with Client("ws://quick", patience=5, connect=Place(yes).connect) as client:
        await client.ping()
        sys.setprofile(note)
        for _ in range(100):
            await client.ping()
        sys.setprofile(None)
    # The one of the alarm for all of them may be among these.
    assert entered < 10
