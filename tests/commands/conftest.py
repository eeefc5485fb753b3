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


@pytest.fixture(params=list(CARRIERS))
async def api(request: pytest.FixtureRequest, server: Server, slow_lane: Server) -> AsyncIterator[Api]:
    async with CARRIERS[request.param](slow_lane if request.param == "hypercorn" else server) as run:
        yield Api(run)
