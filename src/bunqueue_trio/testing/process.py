"""A real server in a process of its own, on a real file: start it, stop it, kill it, and start it again on what it left.

For tests of what virtual time cannot show: signals, files, other programs. Knows nothing of jobs.
"""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from bunqueue_trio.config import Settings

HOST = "127.0.0.1"
SERVE = (sys.executable, "-m", "bunqueue_trio", "serve")
# For what hangs: half a second on a quiet machine.
START_WITHIN_S = 60.0
STOP_WITHIN_S = 60.0
LOOK_EVERY_S = 0.02
# Characters.
LOG_SHOWN = 4000
SETTINGS = frozenset({field.metadata["env"] for field in fields(Settings)} | {"BUNQUEUE_URL", "BUNQUEUE_TOKEN"})
"""What a shell may have set for a server of its own, which must not reach this one."""


class ServerProcess:
    """One data file and one port, and at most one process that serves them. Use as a context manager."""

    def __init__(
        self,
        data_path: Path,
        environment: Mapping[str, str] | None = None,
        *,
        command: Sequence[str] = SERVE,
        inherited: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        log_path: Path | None = None,
        ready: Callable[[Any], object] | None = None,
        within_s: float = START_WITHIN_S,
    ) -> None:
        """Prepare to serve ``data_path``, a file that need not exist yet, on a port that is free now.

        ``environment`` has the settings. The rest of it is ``inherited``: unless that is given, all of this process's but
        settings. ``{port}`` in the command becomes the port. ``ready`` tells, instead of ``/ready``, whether it is.
        """
        self.data_path = data_path
        self.log_path: Path = log_path or data_path.with_suffix(".log")
        self.port: int = free_port()
        self._command = [part.replace("{port}", str(self.port)) for part in command]
        self._cwd = cwd
        self._inherited = without_settings(os.environ) if inherited is None else dict(inherited)
        self.settings: dict[str, str] = dict(environment or {})
        self._ready = ready or type(self).is_ready
        self._within_s = within_s
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address for clients over HTTP."""
        return f"http://{HOST}:{self.port}"

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return (HOST, self.port)

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The process that runs, or that ran last.

        Raises:
            RuntimeError: it was never started.
        """
        if self._process is None:
            raise RuntimeError("this server was not started")
        return self._process

    def __enter__(self) -> Self:
        """Start it; it does not outlive the block."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it at once if it still runs."""
        self.kill()

    def start(self) -> None:
        """Start the process, and return when it is ready.

        Raises:
            RuntimeError: it runs already, or has ended at its start; the message has its log.
            TimeoutError: it was not ready in time.
        """
        if self._process is not None and self._process.poll() is None:
            raise RuntimeError("this server runs already")
        with self.log_path.open("ab") as log:
            self._process = self._spawn(log)
        try:
            self._wait_ready(self._process)
        except BaseException:
            self.kill()
            raise

    def stop(self, signum: int = signal.SIGTERM, within_s: float = STOP_WITHIN_S) -> int:
        """Ask the process to end, and return its exit code.

        Raises:
            subprocess.TimeoutExpired: it did not end in time, and still runs.
        """
        self.process.send_signal(signum)
        return self.process.wait(within_s)

    def kill(self) -> None:
        """End the process with SIGKILL, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def log(self) -> str:
        """What it has written, in all its lives."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def is_ready(self) -> bool:
        """Return whether ``/ready`` answers 200."""
        probe = http.client.HTTPConnection(HOST, self.port, timeout=20)
        try:
            probe.request("GET", "/ready")
            return probe.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            # It does not listen yet.
            return False
        finally:
            probe.close()

    def is_listening(self) -> bool:
        """Return whether a connection can be opened."""
        try:
            socket.create_connection(self.address, 1).close()
        except OSError:
            return False
        return True

    def _spawn(self, log: BinaryIO) -> "subprocess.Popen[bytes]":
        # A process group of its own: Ctrl-C in the terminal ends the test, and the test ends the server.
        return subprocess.Popen(  # noqa: S603 - the caller's own program
            self._command, cwd=self._cwd, env=self._whole_environment(), stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT, process_group=0,
        )  # fmt: skip

    def _whole_environment(self) -> dict[str, str]:
        own = {"HOST": HOST, "HTTP_PORT": str(self.port), "DATA_PATH": str(self.data_path)}
        return self._inherited | own | self.settings

    def _wait_ready(self, process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + self._within_s
        while process.poll() is None:
            if self._ready(self):
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"not ready after {self._within_s:g} s: {self.log[-LOG_SHOWN:]}")
            time.sleep(LOOK_EVERY_S)
        raise RuntimeError(f"the server ended with {process.returncode}: {self.log[-LOG_SHOWN:]}")


def without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without any setting of a server or a client."""
    return {name: value for name, value in environment.items() if name not in SETTINGS}


def free_port() -> int:
    """Find a port that is free now."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
