"""`api`: a server, asked by each carrier in turn."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.commands.carriers import CARRIERS, Api
from tests.wire.conftest import queue as queue
from tests.wire.conftest import server as server
from tests.wire.server import Server


@pytest.fixture(scope="session")
def slow_lane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that answers HTTP through Hypercorn alone."""
    with Server(tmp_path_factory.mktemp("slow") / "q.db", {"EXPRESS": "false"}) as running:
        yield running
        assert running.terminate() == 0


@pytest.fixture(scope="session")
def behind_a_door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose connections another process accepts."""
    with Server(tmp_path_factory.mktemp("door") / "q.db", {"DOORS": "1"}) as running:
        yield running
        assert running.terminate() == 0


@pytest.fixture(params=list(CARRIERS))
async def api(
    request: pytest.FixtureRequest, server: Server, slow_lane: Server, behind_a_door: Server
) -> AsyncIterator[Api]:
    asked = {"hypercorn": slow_lane, "door": behind_a_door}.get(request.param, server)
    async with CARRIERS[request.param](asked) as run:
        yield Api(run)
