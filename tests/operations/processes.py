"""The command line as a person or an init system uses it: processes with an environment of their own."""

import contextlib
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from bunqueue_trio.testing.process import without_settings
from tests import forking
from tests.forking import SOURCE, ServerOfTests
from tests.programs import end_family


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


def environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without any setting of ours, and ``env``."""
    return without_settings(os.environ) | {"PYTHONPATH": str(SOURCE), "COLUMNS": "200"} | dict(env or {})


def bunqueue(*arguments: str, env: Mapping[str, str] | None = None, stdin: str = "", cwd: Path | None = None) -> Done:
    """Run a command to its end."""
    with tempfile.TemporaryDirectory(prefix="command-") as name:
        files = [Path(name) / stream for stream in ("in", "out", "err")]
        for file, text in zip(files, (stdin, "", ""), strict=True):
            file.write_text(text)
        code = forking.run(arguments, environment(env), cwd or Path.cwd(), files)
        return Done(code, files[1].read_text(), files[2].read_text())


class Running(ServerOfTests):
    """A server process that was started with some command."""

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False, **options)

    def wait_logged(self, pattern: str, within_s: float = 60) -> None:
        until(lambda: re.search(pattern, self.log), within_s, lambda: f"{pattern!r} is not in {self.log}")


@contextlib.contextmanager
def serving(
    directory: Path, *flags: str, env: Mapping[str, str] | None = None, command: tuple[str, ...] = ("serve",),
    module: str = "bunqueue_trio", ready: Callable[[Running], object] | None = None,
) -> Iterator[Running]:  # fmt: skip
    """Run a server in ``directory`` until the end of the block; it is ready, and killed if need be."""
    running = Running(
        directory / "q.db", env, inherited=environment(), command=(sys.executable, "-m", module, *command, *flags),
        ready=ready,
    )  # fmt: skip
    running.log_path = directory / f"{running.port}.log"
    try:
        running.start()
        yield running
    finally:
        end_family(running.process)


def until(condition: Callable[[], object], within_s: float, told: Callable[[], str]) -> None:
    """Wait until ``condition`` holds."""
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, told()
        time.sleep(0.02)
