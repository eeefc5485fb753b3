"""A simulated server with its dashboard."""

from collections.abc import AsyncIterator, Iterator

import pytest
from trio.testing import MockClock

from bunqueue_trio.testing.server import Bunqueue
from tests.ui.chromium import Chromium
from tests.ui.site import Site


@pytest.fixture
async def bunqueue(autojump_clock: MockClock) -> AsyncIterator[Bunqueue]:
    async with Bunqueue() as running:
        yield running


@pytest.fixture
async def site(bunqueue: Bunqueue) -> Site:
    return Site(bunqueue)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("profile")) as running:
        yield running
