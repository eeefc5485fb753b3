"""The demo's processes: a server and its workers, all ended whatever happens."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from bunqueue_trio.testing.process import ServerProcess

STOP_WITHIN_S = 30.0
BATCH = 20  # files a worker pulls at once
LEASE_MS = 2_000  # renewed while a batch takes longer, short enough to wait for after the kill
KEPT_RESULTS = 10**9  # all of them: every result is compared in the end


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


class Processes:
    """Start the server and the workers, replace the victim, end them all on leaving the block."""

    def __init__(self, scratch: Path, data_path: Path) -> None:
        """Prepare to keep the log in `scratch` and the jobs in `data_path`."""
        self.server = ServerProcess(
            data_path, {"RETENTION_COMPLETED_MAX": str(KEPT_RESULTS)}, log_path=scratch / "server.log"
        )
        self.url = self.server.url
        self.held_file = scratch / "held.json"
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.pulling: set[str] = set()
        self.victim = ""
        self.held: set[str] = set()  # the jobs the victim had pulled and not acknowledged

    def __enter__(self) -> Self:
        """Enter a block that no process outlives."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every process; a second Ctrl-C does not interrupt that."""
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.stop_workers()
        self.server.kill()
        signal.signal(signal.SIGINT, before)

    def start_server(self) -> None:
        """Start the real server on a free port and wait until it is ready."""
        try:
            self.server.start()
        except (RuntimeError, TimeoutError) as error:
            raise DemoError("the server did not start") from error

    def start_workers(self, count: int, stop_at: int) -> None:
        """Start `count` workers and wait until they pull.

        The first is the victim, to be killed at its `stop_at`-th file. It is let to the queue before
        the others, and pullers are served in turn, so it gets work even if there is little.
        """
        self.victim = "worker-1"
        self._start_worker(self.victim, "--stop-at", str(stop_at), "--held-file", str(self.held_file))
        self._wait_until_pulling()
        for number in range(2, count + 1):
            self._start_worker(f"worker-{number}")
        self._wait_until_pulling()

    def _wait_until_pulling(self) -> None:
        for name, process in self.workers.items():
            if name not in self.pulling:
                assert process.stdout is not None, "workers are started with a pipe"
                if not process.stdout.readline():
                    raise DemoError(f"{name} ended at its start")
                self.pulling.add(name)

    def _start_worker(self, name: str, *options: str) -> None:
        script = str(Path(__file__).with_name("demo_worker.py"))
        command = [sys.executable, script, self.url, name, "--batch", str(BATCH), "--lease-ms", str(LEASE_MS)]
        self.workers[name] = subprocess.Popen(
            [*command, *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, process_group=0
        )

    def look_after(self) -> bool:
        """Kill and replace the victim when it is due (then return True); stop if a process was lost."""
        if not self.held and self.held_file.exists():
            victim = self.workers.pop(self.victim)
            victim.kill()
            victim.wait()
            self.held = set(json.loads(self.held_file.read_text()))
            self._start_worker(f"{self.victim}-replacement")
            return True
        for name, process in [("the server", self.server.process), *self.workers.items()]:
            if process.poll() is not None:
                raise DemoError(f"{name} ended unexpectedly with exit code {process.returncode}")
        return False

    def stop_workers(self) -> None:
        """End the workers: they wait for work that does not come any more."""
        for process in self.workers.values():
            process.terminate()
        for process in self.workers.values():
            _wait(process)
        self.workers.clear()

    def stop_server(self) -> int:
        """Ask the server to end with SIGTERM and return its exit code."""
        try:
            return self.server.stop(within_s=STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            raise DemoError("the server did not end") from None

    def account(self, lines: int = 15) -> str:
        """Say how the server is and what it logged last, for the message of a demo that failed."""
        code = self.server.process.poll()
        state = "is running" if code is None else f"ended with exit code {code}"
        return "\n".join([f"the server {state}; the end of its log:", *self.server.log.splitlines()[-lines:]])


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process that was asked to end; kill it if it does not."""
    try:
        return process.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
