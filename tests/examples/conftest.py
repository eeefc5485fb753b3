"""A server in virtual time (`bunqueue`), a real one in a process (`fresh`), and programs beside it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bunqueue_trio.testing.plugin import bunqueue, pytest_collection_modifyitems
from tests.wire.conftest import fresh

__all__ = ["bunqueue", "fresh", "pytest_collection_modifyitems"]

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
WAIT_S = 90.0


@pytest.fixture(autouse=True)
def quiet(logs: list[object]) -> None:
    """What fails on purpose is not printed."""


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start `python ARGUMENTS…` in the directory of the examples; what still runs at the end is killed."""
    with ExitStack() as running:

        def started(*arguments: object) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, *map(str, arguments)], cwd=EXAMPLES, env=os.environ | {"PYTHONUNBUFFERED": "1"},
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            running.enter_context(process)
            running.callback(process.kill)
            return process

        yield started


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()
