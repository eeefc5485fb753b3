"""`bunqueue-trio queues --wide`: how busy queues are, beside what is in them."""

import re

import pytest

from bunqueue_trio.cli import queues
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.testing.server import Bunqueue
from tests.operations.test_sisters import Shell
from tests.ui.night import push, work


async def test_the_wide_table_has_what_came_and_went_lately(bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch):
    shell = Shell(bunqueue, monkeypatch)
    for _ in range(3):
        await push(bunqueue, "mails")
    await work(bunqueue, "mails", 2)
    await push(bunqueue, "idle")
    await bunqueue.server.note_minute()
    await bunqueue.server.core.execute(c.Pause(queue="named"))
    heads, *rows = (await shell("queues", "--wide")).stdout.splitlines()
    assert heads.split()[-7:] == [*queues.FLOW, "paused"]
    told = {row.split()[0]: row for row in rows}
    assert re.search(r" +3 +2 +3 +2 +1 ms +1 ms$", told["mails"].rstrip())
    assert re.search(r" +1 +0 +1 +0$", told["idle"].rstrip())
    assert "named" in told
    narrow = (await shell("queues")).stdout
    assert not any(name in narrow for name in queues.FLOW)
