"""Fixtures of the engine's tests."""

import pytest

from bunqueue_trio.engine import auto_retries, auto_retrying, line, moves, timers
from tests.engine.make import Bench


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sweeps, second blocks and the end of idle queues happen at sizes that a short life reaches."""
    monkeypatch.setattr(timers, "_SWEEP_MIN", 4)
    monkeypatch.setattr(line, "BLOCK_MAX", 2)
    monkeypatch.setattr(moves, "QUEUES_IDLE_MAX", 2)
    monkeypatch.setattr(auto_retrying, "AUTO_RETRY_SLICE", 2)
    monkeypatch.setattr(auto_retries, "_SWEEP_MIN", 1)


@pytest.fixture
def bench() -> Bench:
    return Bench()
