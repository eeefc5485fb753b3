"""Servers and clients for tests that see nothing but the wire."""

import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.wire.client import Client
from tests.wire.server import Server, StartServer


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server that all plain tests share: none of them may disturb it."""
    with Server(tmp_path_factory.mktemp("shared") / "q.db") as running:
        yield running
        assert running.terminate() == 0


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url) as connected:
        yield connected


@pytest.fixture
def queue() -> str:
    return f"q-{uuid.uuid4().hex}"


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Server]:
    """A server of the test's own, with the default settings."""
    with Server(tmp_path / "q.db") as running:
        yield running


@pytest.fixture(scope="module")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Start servers with settings; they end with the module."""
    with ExitStack() as running:

        def start(env: Mapping[str, str]) -> Server:
            path = tmp_path_factory.mktemp("own") / "q.db"
            return running.enter_context(Server(path, env))

        yield start


@pytest.fixture
def fresh_client(fresh: Server) -> Iterator[Client]:
    """A client of a server of the test's own, for counts that nobody else changes."""
    with Client(fresh.url) as connected:
        yield connected
