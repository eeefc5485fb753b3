"""A WebSocket without events, for the tests of commands."""

from collections.abc import Iterator

import pytest

from tests.stream.ws import Peer, peer
from tests.wire.server import Server


@pytest.fixture
def ws(server: Server) -> Iterator[Peer]:
    """A peer without events."""
    with peer(server, quiet=True) as connected:
        yield connected
