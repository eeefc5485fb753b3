"""`api`: a server, asked by each carrier in turn."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.commands.carriers import CARRIERS, Api
from tests.wire.conftest import queue as queue
from tests.wire.conftest import server as server
from tests.wire.server import Server

# One over HTTP, one over a socket; the others are `thorough`.
QUICK = ("express", "websocket")


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


@pytest.fixture(params=[name if name in QUICK else pytest.param(name, marks=pytest.mark.thorough) for name in CARRIERS])
def carrier(request: pytest.FixtureRequest) -> tuple[str, Server]:
    """A way to ask, and the server for it."""
    asked = {"hypercorn": "slow_lane", "door": "behind_a_door"}.get(request.param, "server")
    return request.param, request.getfixturevalue(asked)


@pytest.fixture
async def api(carrier: tuple[str, Server]) -> AsyncIterator[Api]:
    name, asked = carrier
    async with CARRIERS[name](asked) as run:
        yield Api(run)
