"""Fixtures of the engine's tests."""

import pytest

from bunqueue_trio.engine import engine, ready, timers


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sweeps and the end of idle queues happen at sizes that a short life reaches."""
    monkeypatch.setattr(timers, "_SWEEP_MIN", 4)
    monkeypatch.setattr(ready, "_SWEEP_MIN", 2)
    monkeypatch.setattr(engine, "QUEUES_IDLE_MAX", 2)
