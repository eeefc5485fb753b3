"""What every test may use; fixtures are nouns."""

import codecs
import gc
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from trio.testing import MockClock

from scripts import leftovers
from tests.patience import PATIENCE_S
from tests.postgres import bouncer, empty_url, postgres, url  # noqa: F401 - fixtures for all
from tests.programs import end_lasting

# The standard library's own, one for each process that uses multiprocessing: it ends with that process.
EXPECTED = "multiprocessing.resource_tracker"
NOBODY = 65534

# Behind `nohup` or a shell's `&` these are ignored, and so they would be in every program that a test starts. One with a
# handler of its own is not: a new program begins with the default. Tests also interrupt themselves, as a key does.
for _number, _handler in ((signal.SIGHUP, lambda *_: None), (signal.SIGINT, signal.default_int_handler)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Spare the garbage collector what is there when the tests begin: millions of objects, and all of them stay."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_itemcollected(item: pytest.Item) -> None:
    """Call those that need a database, or a real server, of their own `thorough`, before they are chosen from."""
    if not {"postgres", "fresh"}.isdisjoint(getattr(item, "fixturenames", ())):
        item.add_marker("thorough")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let whoever uses a fixture that asks for `autojump_clock` run in virtual time: pytest-trio takes a clock from a test's own arguments alone."""
    for item in items:
        marker = item.get_closest_marker("trio")
        is_plain = marker is not None and marker.kwargs.get("run", trio.run) is trio.run
        if is_plain and "autojump_clock" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.trio(run=_run_virtually), append=False)


def _run_virtually(main: Any, *, clock: trio.abc.Clock | None, instruments: list[trio.abc.Instrument]) -> Any:
    return trio.run(main, clock=clock or MockClock(autojump_threshold=0), instruments=instruments)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Run what goes again and again through lines that plain tests cover without the tracer of coverage: it doubles the time.

    That is what is marked `untraced`, and what is `slow` outside of the tests of engine and storage; the programs that
    they start, too.
    """
    module = sys.modules.get("coverage")
    tracing = module.Coverage.current() if module else None
    if tracing is None or not _is_untraced(item):
        return (yield)
    inherited = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("COVERAGE_PROCESS_")}
    tracing.stop()
    try:
        return (yield)
    finally:
        tracing.start()
        os.environ |= inherited


def _is_untraced(item: pytest.Item) -> bool:
    if item.get_closest_marker("untraced"):
        return True
    is_traced = item.path.parent.name in ("engine", "storage") or item.path.name in (
        "test_doctor.py",
        "test_backup.py",
        "test_restore.py",
        "test_shrink.py",
    )
    return item.get_closest_marker("slow") is not None and not is_traced


@pytest.fixture
def commoner() -> Iterator[Path]:
    """An open place, and no privilege to go past the rights of files."""
    place = Path(tempfile.mkdtemp())
    place.chmod(0o777)
    # Where Python may not be read then, it would take this encoding, of names of hosts, for unknown in all tests that follow.
    codecs.lookup("idna")
    uid = os.geteuid()
    if uid == 0:
        os.seteuid(NOBODY)
    try:
        yield place
    finally:
        os.seteuid(uid)
        shutil.rmtree(place)


@pytest.fixture(scope="session", autouse=True)
def no_process_left() -> Iterator[None]:
    """Fail the run, and name them, when tests leave processes behind."""
    leftovers.adopt_orphans()
    before = set(leftovers.below(os.getpid()))
    yield
    end_lasting()
    deadline = time.monotonic() + PATIENCE_S
    while (left := _new(before)) and time.monotonic() < deadline:
        time.sleep(0.05)
    names = [leftovers.name(pid) for pid in left]
    leftovers.end(left)
    assert not names, "tests left processes behind:\n" + "\n".join(names)


def _new(before: set[int]) -> list[int]:
    """List the processes below this one that were not there before."""
    return [pid for pid in leftovers.below(os.getpid()) if pid not in before and EXPECTED not in leftovers.name(pid)]


@contextmanager
def logging_as_before() -> Iterator[None]:
    """Undo what a command that runs in this process sets up, or the lines of later tests go past pytest to the terminal."""
    root, known, told = logging.getLogger(), set(logging.getLogger().handlers), structlog.get_config()
    level, is_set_up = root.level, structlog.is_configured()
    yield
    root.handlers = [
        each for each in root.handlers if each in known or not type(each).__module__.startswith("bunqueue_trio.")
    ]
    root.setLevel(level)
    if structlog.get_config() != told:
        structlog.configure(**told)
    if not is_set_up:
        structlog.reset_defaults()


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    with logging_as_before():
        yield


@pytest.fixture
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    """What the server logs during the test, entry by entry, instead of on the terminal."""
    with structlog.testing.capture_logs() as entries:
        yield entries
