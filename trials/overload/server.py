"""The server under attack of the trial: its process, what it uses, and a store that is slow on purpose.

Started as a program it is the server with a slow disk: each commit takes OVERLOAD_COMMIT_MS and OVERLOAD_ROW_US more.
"""

import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from trials.lib.places import PYTHONPATH, ROOT
from trials.overload.client import PATIENCE_S

READY_S = 60.0  # on a machine that is busy with other things
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

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, folder: Path) -> None:
        self.process = process
        self.port = port
        self.folder = folder
        self.usage: list[Usage] = []
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return ("127.0.0.1", self.port)

    @property
    def log(self) -> str:
        """What the server has logged."""
        return (self.folder / "server.log").read_text(encoding="utf-8", errors="replace")

    def look(self) -> Usage:
        """Return what the process uses now.

        Raises:
            ProcessLookupError: it has ended.
        """
        folder = Path(f"/proc/{self.process.pid}")
        if self.process.poll() is not None:
            raise ProcessLookupError(f"the server ended with {self.process.returncode}: {self.log[-2000:]}")
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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = {"HOST": "127.0.0.1", "HTTP_PORT": str(port), "DATA_PATH": str(folder / "q.db"), "LOG_LEVEL": "warning"}
    path = os.pathsep.join([PYTHONPATH, os.environ.get("PYTHONPATH", "")])
    slow = "OVERLOAD_COMMIT_MS" in env
    command = [sys.executable, "-m", "trials.overload.server" if slow else "bunqueue_trio", "serve"]
    if "OVERLOAD_ASGI" in env:
        (folder / "hypercorn.toml").write_text(HYPERCORN_TOML, encoding="ascii")
        command = [
            sys.executable, "-m", "hypercorn", "--worker-class", "trio", "--bind", f"127.0.0.1:{port}",
            "--config", str(folder / "hypercorn.toml"), "bunqueue_trio.asgi:app",
        ]  # fmt: skip

    def limit() -> None:
        if descriptors is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            command, env=os.environ | {"PYTHONPATH": path} | own | dict(env), preexec_fn=limit,  # noqa: PLW1509
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    client = None
    try:
        _wait_listening(server, port, folder)
        running = Target(server, port, folder)
        with (folder / "client.out").open("wb") as out, (folder / "client.err").open("wb") as err:
            arguments = [str(port), "tls"] if "TLS_CERT_FILE" in env else [str(port)]
            client = subprocess.Popen(
                [sys.executable, "-m", "trials.overload.client", *arguments], cwd=ROOT, stdout=out, stderr=err
            )
        yield running
    finally:
        for process in (client, server):
            if process is not None:
                process.kill()
                process.wait(PATIENCE_S)


def _wait_listening(server: "subprocess.Popen[bytes]", port: int, folder: Path) -> None:
    end = time.monotonic() + READY_S
    while time.monotonic() < end:
        if server.poll() is not None:
            raise RuntimeError((folder / "server.log").read_text(encoding="utf-8", errors="replace"))
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError("the server does not listen")


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
