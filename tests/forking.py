"""Commands and servers in processes that are forked from one that has loaded the code (`stem.py`).

They are as real as others: a forked server is this process's own child, which it signals, kills and waits for.
"""

import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import bunqueue_trio
from bunqueue_trio.testing.process import HOST, SERVE, SETTINGS, ServerProcess, without_settings
from tests.patience import PATIENCE_S
from tests.programs import LASTING

SOURCE = Path(bunqueue_trio.__file__).parents[1]
"""Of the code under test, which may be a copy with a fault planted in it."""
ROOT = Path(__file__).parents[1]


class Forked:
    """A server that was forked, with the methods of :class:`subprocess.Popen` that tests use."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return its exit code, None while it runs."""
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; return its exit code."""
        if self.poll() is None:
            # Not select, which knows no descriptors above 1,023: some tests open thousands.
            poll, descriptor = select.poll(), os.pidfd_open(self.pid)
            poll.register(descriptor, select.POLLIN)
            poll.poll(None if timeout is None else timeout * 1000)
            os.close(descriptor)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired("serve", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ServerOfTests(ServerProcess):
    """A server that is forked, unless it is to be started in another way or measured by coverage."""

    def _spawn(self, log: BinaryIO) -> Any:
        is_plain = (
            tuple(self._command[: len(SERVE)]) == SERVE and self._cwd is None and self.settings.keys() <= SETTINGS
        )
        if not is_plain or any(name.startswith("COVERAGE_PROCESS_") for name in os.environ):
            return super()._spawn(log)
        return start(self._command[len(SERVE) - 1 :], self._whole_environment(), Path.cwd(), self.log_path)


def run(arguments: Sequence[str], env: Mapping[str, str], cwd: Path, files: list[Path]) -> int:
    """Run a command to its end; ``files`` are what it reads, writes and complains to. Return its exit code."""
    return _ask(arguments, env, cwd, files, stays=False)


def start(arguments: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path) -> Forked:
    """Start a command that stays, and writes to the end of ``log``."""
    pid = _ask(arguments, env, cwd, [Path(os.devnull), log, log], stays=True)
    # Who forked it ends, and this process adopts orphans.
    deadline = time.monotonic() + PATIENCE_S
    while _parent_of(pid) != os.getpid():
        assert time.monotonic() < deadline, f"process {pid} does not become ours"
        time.sleep(0.001)
    return Forked(pid)


def _parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _ask(arguments: Sequence[str], env: Mapping[str, str], cwd: Path, files: list[Path], *, stays: bool) -> int:
    asked = {"arguments": [*arguments], "env": {**env}, "cwd": str(cwd), "files": [*map(str, files)], "stays": stays}
    with socket.create_connection((HOST, _stem()), timeout=PATIENCE_S) as connection:
        connection.sendall(json.dumps(asked).encode() + b"\n")
        return int(connection.makefile().readline())


@functools.cache
def _stem() -> int:
    """Start the process that forks; return the port at which it listens."""
    with socket.create_server((HOST, 0), backlog=100) as listening:
        env = without_settings(os.environ) | {"PYTHONPATH": f"{SOURCE}:{ROOT}", "COLUMNS": "200"}
        command = [sys.executable, "-m", "tests.stem"]
        LASTING.append(subprocess.Popen(command, cwd=ROOT, env=env, stdin=listening.fileno(), start_new_session=True))
        port: int = listening.getsockname()[1]
        return port
