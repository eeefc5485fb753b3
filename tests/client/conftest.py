"""A real server in a process (`server`); the one in virtual time (`bunqueue`) comes with the package."""

from collections.abc import Iterator

import pytest
import structlog

from tests.wire.conftest import fresh, queue, server, start_server

__all__ = ["fresh", "queue", "server", "start_server"]


@pytest.fixture(autouse=True)
def quiet(logs: list[object]) -> None:
    """What fails on purpose is not printed."""


@pytest.fixture
def unset() -> Iterator[None]:
    """A program that has not set up structlog."""
    before = structlog.get_config()
    structlog.reset_defaults()
    yield
    structlog.configure(**before)
