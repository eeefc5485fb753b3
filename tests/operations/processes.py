"""The command line as a person or an init system uses it: processes with an environment of their own."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from bunqueue_trio.config import Settings
from tests.programs import end_family
from tests.wire.server import HOST, SOURCE, free_port

OWN = {f.metadata["env"] for f in fields(Settings)} | {"BUNQUEUE_URL", "BUNQUEUE_TOKEN"}
READY_S = 60.0  # 0.5 s on a quiet machine


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


def environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without any setting of ours, and ``env``."""
    inherited = {name: value for name, value in os.environ.items() if name not in OWN}
    return inherited | {"PYTHONPATH": str(SOURCE), "COLUMNS": "200"} | dict(env or {})


def bunqueue(*arguments: str, env: Mapping[str, str] | None = None, stdin: str = "", cwd: Path | None = None) -> Done:
    """Run a command to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "bunqueue_trio", *arguments], env=environment(env), input=stdin, cwd=cwd,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


class Running:
    """A server process that was started with some command, and what it has logged."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path, port: int, data_path: Path) -> None:
        self.process = process
        self.log_path = log
        self.port = port
        self.data_path = data_path
        self.url = f"http://{HOST}:{port}"

    @property
    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False, **options)

    def stop(self, signum: signal.Signals = signal.SIGTERM, within_s: float = 60) -> int:
        self.process.send_signal(signum)
        return self.process.wait(within_s)

    def wait_logged(self, pattern: str, within_s: float = 60) -> None:
        until(lambda: re.search(pattern, self.log), within_s, lambda: f"{pattern!r} is not in {self.log}")


@contextlib.contextmanager
def serving(
    directory: Path, *flags: str, env: Mapping[str, str] | None = None, command: tuple[str, ...] = ("serve",),
    module: str = "bunqueue_trio", ready: Callable[[Running], object] | None = None,
) -> Iterator[Running]:  # fmt: skip
    """Run a server in ``directory`` until the end of the block; it is ready, and killed if need be."""
    port, data_path = free_port(), directory / "q.db"
    own = {"HOST": HOST, "HTTP_PORT": str(port), "DATA_PATH": str(data_path)}
    log = directory / f"{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *(part.format(port=port) for part in command), *flags],
            env=environment(own | dict(env or {})), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    running = Running(process, log, port, data_path)
    try:
        until(
            lambda: process.poll() is not None or (ready or _is_ready)(running),
            READY_S,
            lambda: f"not ready: {running.log}",
        )
        assert process.poll() is None, running.log
        yield running
    finally:
        end_family(process)


def until(condition: Callable[[], object], within_s: float, told: Callable[[], str]) -> None:
    """Wait until ``condition`` holds."""
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, told()
        time.sleep(0.02)


def _is_ready(running: Running) -> bool:
    with contextlib.suppress(httpx.TransportError), running.client() as client:
        return client.get("/ready").status_code == 200
    return False
