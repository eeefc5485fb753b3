"""A real server in a process (`server`); the one in virtual time (`bunqueue`) comes with the package."""

import pytest

from bunqueue_trio.config import Settings
from tests.wire.conftest import fresh, queue, server

__all__ = ["fresh", "queue", "server"]


@pytest.fixture
def bunqueue_settings() -> Settings:
    """Cuts and crashes are many here, and no fault of a job's."""
    return Settings(stalls_max=1000)


@pytest.fixture(autouse=True)
def quiet(logs: list[object]) -> None:
    """What fails on purpose is not printed."""
