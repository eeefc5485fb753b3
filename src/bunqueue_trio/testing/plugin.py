"""The pytest fixture ``bunqueue``: ``pytest_plugins = ["bunqueue_trio.testing.plugin"]``, beside pytest-trio."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import trio.testing
from pytest_trio import trio_fixture  # type: ignore[import-untyped]

from bunqueue_trio.testing.server import Bunqueue


@trio_fixture  # type: ignore[untyped-decorator]
async def bunqueue() -> AsyncIterator[Bunqueue]:
    """A server of the test's own, in virtual time."""
    async with Bunqueue() as running:
        yield running  # noqa: ASYNC119 - pytest-trio sees to its end


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let every test that uses the fixture run in virtual time, whether it asks for a clock or not."""
    for item in items:
        if "bunqueue" in getattr(item, "fixturenames", ()) and item.get_closest_marker("trio") is None:
            item.add_marker(pytest.mark.trio(run=_virtual))


def _virtual(main: Any, *, clock: trio.abc.Clock | None, instruments: Sequence[trio.abc.Instrument]) -> Any:
    clock = clock or trio.testing.MockClock(autojump_threshold=0)
    return trio.run(main, clock=clock, instruments=instruments)
