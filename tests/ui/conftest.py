"""A simulated server with its dashboard."""

from collections.abc import AsyncIterator

import pytest
from trio.testing import MockClock

from bunqueue_trio.testing.server import Bunqueue
from tests.ui.site import Site


@pytest.fixture
async def bunqueue(autojump_clock: MockClock) -> AsyncIterator[Bunqueue]:
    async with Bunqueue() as running:
        yield running


@pytest.fixture
async def site(bunqueue: Bunqueue) -> Site:
    return Site(bunqueue)
