"""A server of each lane, and clients of it."""

from collections.abc import Iterator

import pytest

from tests.stream.ws import Peer, peer
from tests.wire.client import Client, ok
from tests.wire.server import Server, StartServer


@pytest.fixture(scope="module", params=["express", "slow lane"])
def lane(request: pytest.FixtureRequest, start_server: StartServer) -> Server:
    return start_server({"EXPRESS": str(request.param == "express").lower()})


@pytest.fixture
def client(lane: Server) -> Iterator[Client]:
    with Client(lane.url) as connected:
        yield connected


def facts(client: Client, job_id: str) -> tuple[str, int, int]:
    state = ok(client.get(f"/jobs/{job_id}/state"))
    return state["state"], client.job(job_id)["attempts"], state["stalls"]


# --- a pull that is taken back --------------------------------------------------------------------


@pytest.fixture
def ws(lane: Server) -> Iterator[Peer]:
    with peer(lane, quiet=True) as connected:
        yield connected
