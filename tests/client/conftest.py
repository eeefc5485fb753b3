"""A server in virtual time (`bunqueue`), and a real one in a process (`server`)."""

import pytest

from bunqueue_trio.testing.plugin import bunqueue, pytest_collection_modifyitems
from tests.wire.conftest import fresh, queue, server

__all__ = ["bunqueue", "fresh", "pytest_collection_modifyitems", "queue", "server"]


@pytest.fixture(autouse=True)
def quiet(logs: list[object]) -> None:
    """What fails on purpose is not printed."""
