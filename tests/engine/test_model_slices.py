"""What is done to many jobs slice by slice, with other commands in between, agrees with the naive model, each slice and all of them."""

import json
import random
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.catalog import SPECS
from bunqueue_trio.runtime import slices
from tests.engine.engine_world import World

pytestmark = pytest.mark.usefixtures("small_limits")

QUEUES = ["a", "b"]


def some_command(rng: random.Random) -> Any:
    """A command on many jobs that wait."""
    queue, limit = rng.choice(QUEUES), rng.choice([3, 5, 1000])
    # Who gets another priority may stand behind the cursor then, and is looked at once more.
    action = rng.choice(["cancel", "discard", "move"])
    more = {"to": "c"} if action == "move" else {}
    wanted = c.Filter(queue=queue, state="waiting")
    return rng.choice([
        c.Clean(queue=queue, state=rng.choice(["waiting", "delayed"]), limit=limit, grace=rng.choice([0, 1]), dry_run=rng.random() < 0.3),
        c.ActOnJobs(filter=wanted, action=action, limit=limit, dry_run=rng.random() < 0.2, **more),
        c.ActOnJobs(filter=wanted, action="cancel", limit=limit, reason="no", rate=rng.choice([1, 3])),
    ])  # fmt: skip


def other_command(rng: random.Random, world: World) -> Any:
    """One that brings nothing before a place that a slice has passed."""
    queue, there = rng.choice(QUEUES), [job.id for job in world.model.jobs] or ["nobody"]
    return rng.choice([
        c.Push(queue=queue, data=Raw(b"1")), c.Push(queue=queue, data=Raw(b"1"), delay=rng.randrange(1000, 2000)), c.Pull(queue=queue),
        c.Cancel(id=rng.choice(there)), c.Discard(id=rng.choice(there)), c.Promote(id=rng.choice(there)), c.Pause(queue=queue), c.Resume(queue=queue),
    ])  # fmt: skip


@pytest.mark.parametrize(
    "seed",
    [*range(4), *(pytest.param(seed, marks=[pytest.mark.thorough, pytest.mark.untraced]) for seed in range(4, 60))],
)
def test_slices_with_others_in_between_agree_with_the_model(monkeypatch: pytest.MonkeyPatch, seed: int):
    monkeypatch.setattr(slices, "SLICE", 2)
    rng, world = random.Random(seed), World()
    for _ in range(rng.randrange(4, 20)):
        delay = 0 if rng.random() < 0.6 else rng.randrange(1, 900)
        world.do(c.Push(queue=rng.choice(QUEUES), data=Raw(b"1"), priority=rng.choice([0, 0, 5]), delay=delay))
    for _ in range(3):
        command = some_command(rng)
        rest, told = command, None
        while rest is not None:
            slice_ = slices.first_slice(rest)
            reply = msgspec.json.decode(json.dumps(world.do(slice_)), type=SPECS[type(command)].reply)
            rest = slices.rest_of(rest, slice_, reply)
            told = reply if told is None else slices.joined(told, reply)
            for _ in range(rng.randrange(3)):
                world.do(other_command(rng, world))
            if rng.random() < 0.2:
                world.commit()
        assert told is not None
        assert told.count <= getattr(command, "count", getattr(command, "limit", 0))  # type: ignore[attr-defined]
        world.go_to(world.now + rng.choice([0, 1]))
    world.finish()
