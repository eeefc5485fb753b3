"""What the order of everything relies on stands where it is relied on: who breaks it ends the process, and nothing is written."""

from typing import Any

import pytest

from bunqueue_trio.engine.commands import run
from bunqueue_trio.errors import InvariantBroken
from bunqueue_trio.runtime import core
from tests.runtime.runtime_world import Answers, World


async def test_time_never_falls(world: World):
    now = world.clock.now()
    world.engine.advance(now + 1)
    with pytest.raises(AssertionError, match="time never falls"):
        world.engine.advance(now)


async def test_one_batch_is_being_written_at_a_time(world: World, answers: Answers):
    """What hides a replaced record, and how long a reused id is reused, is known of one batch only."""
    await answers.ask("push", world.push)
    world.journal._writing = world.journal._take()
    await answers.ask("another", world.push)
    with pytest.raises(AssertionError, match="would be lost"):
        world.journal._take()


async def test_no_step_of_a_command_takes_a_batch(world: World, monkeypatch: pytest.MonkeyPatch):
    """The batch that its answer waits for is known before the step."""

    def taking(engine: Any, *args: Any, **named: Any) -> Any:
        reply = run(engine, *args, **named)
        engine.take()
        return reply

    monkeypatch.setattr(core, "run", taking)
    with pytest.raises((AssertionError, InvariantBroken)):
        await world.push()
