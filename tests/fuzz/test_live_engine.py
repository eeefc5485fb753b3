"""No command makes a step of a server in the middle of its life raise anything but a refusal, whatever its fields say; and the server's audit finds nothing after it."""

import random

import pytest
import trio
from trio.testing import MockClock

from bunqueue_trio.config import Settings
from bunqueue_trio.engine.commands import HANDLERS
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.catalog import COMMANDS, SESSION
from bunqueue_trio.protocol.server_replies import UpkeepView
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.services import Deadlines, looped
from bunqueue_trio.runtime.supervisor import supervise
from bunqueue_trio.storage.memory import MemoryStore
from tests.fuzz import harness
from tests.fuzz.live import Life, begin

KINDS = sorted(tag for tag, kind in COMMANDS.items() if kind not in SESSION)


def run(seed: str, tags: list[str], steps: int) -> dict[str, int]:
    """Send random commands of these kinds; return how many were answered so, by code."""
    return trio.run(_run, seed, tags, steps, clock=MockClock(autojump_threshold=0))


async def _run(seed: str, tags: list[str], steps: int) -> dict[str, int]:
    rng, found = random.Random(seed), dict[str, int]()
    server = Server(Settings(shutdown_grace_ms=0), MemoryStore(), Clock(harness.START_MS))
    # As if there were a file, and what is done to it took no time.
    server.engine.upkeep.plan = lambda kind: UpkeepView(kind=kind, state="planned", bytes=7)
    server.engine.upkeep.on_begin = lambda work: setattr(work, "state", "done")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervise, server.flusher)
        for alarm in (server.core.scheduler, server.core.stall_detector):
            nursery.start_soon(looped(Deadlines(server.core, alarm)))
        life = Life(server, rng)
        await begin(life)
        for _ in range(steps):
            code = await life.send(life.message(rng.choice(tags)), rng.choice([None, "socket"]))
            found[code] = found.get(code, 0) + 1
            if rng.random() < 0.05:
                await trio.sleep(rng.choice([0.001, 0.1, 2]))
        server.core.release("socket", dropped=True)
        await trio.testing.wait_all_tasks_blocked()
        harness.check_server(server)
        nursery.cancel_scope.cancel()
    return found


@pytest.mark.slow
@pytest.mark.untraced
@pytest.mark.parametrize("tag", KINDS)
def test_no_command_makes_a_step_raise(tag: str):
    found = run(tag, [tag], 150)
    assert found.get("", 0) > 0, "none of them was right"


@pytest.mark.slow
@pytest.mark.untraced
# The life of seed 5 has a schedule of every few ms, which costs as much as all others.
@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4, 6])
def test_no_mixture_of_them_does(seed: int):
    found = run(str(seed), KINDS, 600)
    assert found[""] > 100


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.untraced
@pytest.mark.parametrize("seed", range(100, 120))
def test_no_long_mixture_of_them_does(seed: int):
    run(str(seed), KINDS, 4000)


@pytest.mark.parametrize("error", [ValueError("planted"), AssertionError("planted")], ids=type)
def test_it_would_be_noticed(monkeypatch: pytest.MonkeyPatch, error: Exception):
    def handler(*_: object) -> None:
        raise error

    monkeypatch.setitem(HANDLERS, c.GetState, handler)
    with pytest.RaisesGroup(AssertionError):
        run("0", ["GetState"], 5)
    with pytest.RaisesGroup(AssertionError):
        harness.http([b"GET /jobs/x/state HTTP/1.1\r\nHost: x\r\n\r\n"])
    with pytest.RaisesGroup(AssertionError):
        harness.messages([b'{"cmd":"GetState","id":"x"}'])
