"""A door's requests end the server when an invariant of its own is broken, and for nothing that a library asserts of a client's bytes."""

import pytest
import trio
import trio.testing

from bunqueue_trio.doors.answering import Answering
from bunqueue_trio.doors.link import FRAMES
from bunqueue_trio.doors.opened import serve_opened
from bunqueue_trio.errors import InvariantBroken
from tests.doors.framed_world import World
from tests.doors.framed_world import world as world


@pytest.mark.parametrize(("error", "ends"), [(AssertionError("odd bytes"), False), (InvariantBroken("lost"), True)])
async def test_only_what_we_assert_ends_the_server(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception, ends: bool
) -> None:
    async def run(self: Answering, *, looks: bool) -> None:
        await trio.lowlevel.checkpoint()
        raise ExceptionGroup("of a task", [error])

    monkeypatch.setattr(Answering, "run", run)
    ours, _ = trio.testing.memory_stream_pair()
    raised: list[BaseException] = []
    try:
        await serve_opened(world.server, world.http, ours, FRAMES, object())
    except ExceptionGroup as group:
        raised += group.exceptions
    assert raised == [error] * ends
