"""A server that was frozen, or whose machine was, reads first what its clients have said meanwhile: nobody is late by that."""

import pytest
import trio
import trio.testing

from bunqueue_trio.config import AWAY_S, KEEPER_S, Settings
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.storage.memory import MemoryStore
from bunqueue_trio.transports.listener import Http


@pytest.mark.parametrize("away_s", [0, AWAY_S / 2, AWAY_S * 2, 1000])
async def test_late_clients_are_looked_for_when_they_have_been_heard(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, away_s: float
):
    looks: list[float] = []

    async def look(_: Http) -> None:
        await trio.lowlevel.checkpoint()
        looks.append(trio.current_time())

    monkeypatch.setattr(Http, "_end_late", look)
    http = Http(Server(Settings(), MemoryStore(), Clock()), nursery, express=True)
    nursery.start_soon(http._keep)
    await trio.sleep(2.5 * KEEPER_S)
    assert len(looks) == 2
    autojump_clock.jump(away_s)
    thawed = trio.current_time()
    await trio.sleep(5 * KEEPER_S)
    late = thawed + KEEPER_S if away_s > AWAY_S else thawed + KEEPER_S / 2 if away_s < KEEPER_S else thawed
    assert looks[2] == pytest.approx(late, abs=0.01)
    assert len(looks) >= 5
