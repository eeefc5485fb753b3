"""A large command is read in steps, and leaves the others their share."""

from typing import Any

import pytest
import trio
import trio.testing

from bunqueue_trio import errors
from bunqueue_trio.api.bulk import LargeReader
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import walk
from bunqueue_trio.protocol.codec import decode_message
from bunqueue_trio.runtime.half import Half

MESSAGE = b'{"cmd":"Ping","x":[%s1]}' % (b"[1]," * 300_000)


class OfAJournal:
    """What the reader asks of one; where it is busy, others change something in every round."""

    def __init__(self, *, is_busy: bool) -> None:
        self.half = Half()
        self._is_busy = is_busy
        self._committed = 0

    @property
    def committed(self) -> int:
        self._committed += self._is_busy
        return self._committed


@pytest.mark.parametrize("fills", [True, False])
@pytest.mark.parametrize("is_busy", [True, False])
async def test_it_rests_after_each_step_in_whose_round_others_change_something(
    autojump_clock: trio.testing.MockClock, is_busy: bool, fills: bool
):
    journal: Any = OfAJournal(is_busy=is_busy)
    begun = trio.current_time()
    found = await LargeReader(journal).read(None, MESSAGE, decode_message, errors.INVALID_JSON, fills=fills)
    assert isinstance(found.command, c.Ping)
    rested = trio.current_time() - begun
    assert rested >= 0.001 * (len(MESSAGE) // walk.PIECE) if is_busy else rested == 0
