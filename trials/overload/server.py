"""The server under attack of the trial: its process, what it uses, and a store that is slow on purpose.

Started as a program it is the server with a slow disk: each commit takes OVERLOAD_COMMIT_MS and OVERLOAD_ROW_US more.
"""

import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bunqueue_trio.testing.process import ServerProcess
from trials.lib.places import PYTHONPATH, ROOT

SAMPLE_S = 0.05
HYPERCORN_TOML = """
workers = 0
backlog = 1024
keep_alive_timeout = 75
h11_max_incomplete_size = 65536
websocket_max_message_size = 10485760
max_app_queue_size = 2
"""
"""For the server under plain Hypercorn, as docs/overload.md recommends it; 0 workers: in the process that is measured."""
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Usage(NamedTuple):
    """What the process used at some moment."""

    at: float
    rss_mib: float
    descriptors: int
    cpu_s: float


class Answer(NamedTuple):
    """How one request of the good client went."""

    at: float
    ms: float
    status: int
    new: bool
    """It was the first on its connection."""


class Target:
    """A running server, its figures over time, and the well-behaved client next to the attack."""

    def __init__(self, server: ServerProcess, folder: Path) -> None:
        self.folder = folder
        self.usage: list[Usage] = []
        self._server = server
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return self._server.address

    @property
    def log(self) -> str:
        """What the server has logged."""
        return self._server.log

    def look(self) -> Usage:
        """Return what the process uses now.

        Raises:
            ProcessLookupError: it has ended.
        """
        process = self._server.process
        folder = Path(f"/proc/{process.pid}")
        if process.poll() is not None:
            raise ProcessLookupError(f"the server ended with {process.returncode}: {self.log[-2000:]}")
        status = (folder / "statm").read_text(encoding="ascii").split()
        fields = (folder / "stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        return Usage(
            time.monotonic(), int(status[1]) * resource.getpagesize() / 2**20, len(os.listdir(folder / "fd")),  # noqa: PTH208
            (int(fields[11]) + int(fields[12])) / TICKS_PER_S,
        )  # fmt: skip

    def answers(self) -> list[Answer]:
        """Return how the good client's requests went so far."""
        lines = (self.folder / "client.out").read_text(encoding="ascii").splitlines()
        whole = [fields for line in lines if len(fields := line.split()) == 4]
        return [Answer(float(at), float(ms), int(status), kind == "new") for at, ms, status, kind in whole]

    def _sample(self) -> None:
        while True:
            try:
                self.usage.append(self.look())
            except (OSError, ProcessLookupError, IndexError):
                return
            time.sleep(SAMPLE_S)


@contextmanager
def target(folder: Path, env: Mapping[str, str], *, descriptors: int | None = None) -> Iterator[Target]:
    """Start a server with the settings ``env``, and the good client; end both with the block."""
    command = [
        sys.executable,
        "-m",
        "trials.overload.server" if "OVERLOAD_COMMIT_MS" in env else "bunqueue_trio",
        "serve",
    ]
    if "OVERLOAD_ASGI" in env:
        (folder / "hypercorn.toml").write_text(HYPERCORN_TOML, encoding="ascii")
        command = [
            sys.executable, "-m", "hypercorn", "--worker-class", "trio", "--bind", "127.0.0.1:{port}",
            "--config", str(folder / "hypercorn.toml"), "bunqueue_trio.asgi:app",
        ]  # fmt: skip
    if descriptors is not None:
        command = ["sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh", *command]
    own = {"LOG_LEVEL": "warning", "PYTHONPATH": os.pathsep.join([PYTHONPATH, os.environ.get("PYTHONPATH", "")])}
    server = ServerProcess(
        folder / "q.db", own | dict(env), command=command, log_path=folder / "server.log",
        ready=ServerProcess.is_listening,
    )  # fmt: skip
    with server:
        arguments = [str(server.port), "tls"] if "TLS_CERT_FILE" in env else [str(server.port)]
        running = Target(server, folder)
        with (
            (folder / "client.out").open("wb") as out, (folder / "client.err").open("wb") as err,
            subprocess.Popen(
                [sys.executable, "-m", "trials.overload.client", *arguments], cwd=ROOT, stdout=out, stderr=err
            ) as client,
        ):  # fmt: skip
            try:
                yield running
            finally:
                client.kill()


def main() -> None:
    """Run the server on a store that takes its time."""
    from bunqueue_trio.cli import main as cli
    from bunqueue_trio.storage.sqlite import SqliteStore
    from bunqueue_trio.storage.store import Batch

    base_s = float(os.environ["OVERLOAD_COMMIT_MS"]) / 1000
    row_s = float(os.environ.get("OVERLOAD_ROW_US", "0")) / 1e6
    commit = SqliteStore.commit

    def slow_commit(self: SqliteStore, batch: Batch) -> None:
        time.sleep(base_s + row_s * batch.rows())
        commit(self, batch)

    SqliteStore.commit = slow_commit  # type: ignore[method-assign]
    cli(args=sys.argv[1:])  # exits


if __name__ == "__main__":
    main()
