"""A real server in a process (`server`); the one in virtual time (`bunqueue`) comes with the package."""

import pytest

from tests.wire.conftest import fresh, queue, server, start_server

__all__ = ["fresh", "queue", "server", "start_server"]


@pytest.fixture(autouse=True)
def quiet(logs: list[object]) -> None:
    """What fails on purpose is not printed."""
