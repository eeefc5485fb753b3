"""Bulk commands of a few jobs, in slices that are smaller still."""

from typing import Any

import pytest
from msgspec import Raw

from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.runtime import core
from tests.runtime.runtime_world import World

SLICE = 3


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "BULK_SLICE", SLICE)


def spec(**fields: Any) -> c.JobSpec:
    return c.JobSpec(data=Raw(b"1"), **fields)


def bulk(n: int = 10, queue: str = "q", **fields: Any) -> c.PushBatch:
    return c.PushBatch(queue=queue, jobs=[spec(**fields) for _ in range(n)])


def begin(world: World, command: c.PushBatch) -> core.Begun:
    """Begin a bulk push, of which the first jobs are in then."""
    begun = world.core.begin(command, sliced=True)
    assert begun.bulk is not None
    return begun


async def ids_of(world: World, begun: core.Begun) -> list[str]:
    reply = await world.core.finish(begun)
    assert isinstance(reply, r.PushBatchReply)
    return reply.ids
