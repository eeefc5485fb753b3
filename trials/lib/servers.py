"""The servers under measurement: start, readiness, CPU time and memory from /proc, and a sure end.

Each server listens on the loopback address only, with an environment of its own and data in a directory of its own.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bunqueue_trio import __version__
from bunqueue_trio.testing.process import HOST, STOP_WITHIN_S, ServerProcess, free_port
from trials.lib.places import PYTHONPATH
from trials.lib.raw_http import Connection

BUN_VERSION = "1.4.5"
ORIGINAL_VERSION = "2.9.5"
INSTALL_WITHIN_S = 300.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")

# Neither server may refuse load: the original allows 10,000 requests a minute by default. It also remembers every
# request of the window, so a short window is the kindest to it; ours has no limit and remembers nothing.
UNLIMITED = {"RATE_LIMIT_MAX_REQUESTS": "Infinity", "RATE_LIMIT_WINDOW_MS": "1000"}


class BenchError(Exception):
    """A measurement cannot go on; the message says why."""


@dataclass(frozen=True)
class Kind:
    """A server program: its name in the tables, its version, and the command that starts it."""

    name: str
    version: str
    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()


def ours() -> Kind:
    """Describe this project's server."""
    command = (sys.executable, "-m", "bunqueue_trio", "serve")
    # This checkout's code, whatever is installed; the log level is the original's, too: neither logs requests.
    return Kind("bunqueue-trio", __version__, command, (("LOG_LEVEL", "error"), ("PYTHONPATH", PYTHONPATH)))


def original(directory: Path | None) -> Kind | str:
    """Describe the original, installed from npm if need be; or say in one line why it is left out.

    `directory` is one where `npm install` was run; without it a cache below the user's temporary directory is used.
    """
    try:
        root = directory or own_cache(ORIGINAL_VERSION)
    except BenchError as error:
        return f"the original is left out: {error}"
    bun, entry = _programs(root)
    if not (bun.exists() and entry.exists()):
        if directory is not None:
            return "the original is left out: --original has no node_modules with bun and bunqueue"
        problem = _install(root)
        if problem is not None:
            return f"the original is left out: {problem}"
    try:
        version = subprocess.run([bun, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return "the original is left out: its bun does not run on this machine"
    command = (str(bun), str(entry))
    return Kind("bunqueue", f"{ORIGINAL_VERSION} on Bun {version.strip()}", command, (("LOG_LEVEL", "error"),))


def own_cache(name: str) -> Path:
    """Return a directory for what is installed once, below the temporary one; it need not exist.

    Raises:
        BenchError: somebody else has made it.
    """
    root = Path(tempfile.gettempdir()) / f"bunqueue-bench-{os.getuid()}-{name}"
    if root.exists() and root.lstat().st_uid != os.getuid():
        raise BenchError("its cache directory belongs to somebody else")
    return root


def _install(root: Path) -> str | None:
    """Install the pinned versions into `root`; return what went wrong."""
    npm = shutil.which("npm")
    if npm is None:
        return "there is no npm to install it with (see --original)"
    packages = [f"bun@{BUN_VERSION}", f"bunqueue@{ORIGINAL_VERSION}"]
    print(f"installing {' and '.join(packages)} (once)", file=sys.stderr, flush=True)
    # Beside its place: an install that is cut short, or two at once, leave nothing half done there.
    with tempfile.TemporaryDirectory(prefix=f"{root.name}-", dir=root.parent, ignore_cleanup_errors=True) as fresh:
        command = [
            npm,
            "install",
            "--no-audit",
            "--no-fund",
            "--save-exact",
            "--prefer-offline",
            "--fetch-retries=0",
            "--prefix",
            fresh,
            *packages,
        ]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=2, timeout=INSTALL_WITHIN_S, check=False)
        except subprocess.TimeoutExpired:
            return f"npm did not finish within {INSTALL_WITHIN_S:.0f} s"
        if done.returncode:
            return f"npm install ended with {done.returncode}"
        if not all(program.exists() for program in _programs(root)):
            shutil.rmtree(root, ignore_errors=True)
        with suppress(OSError):  # another process was first
            Path(fresh).rename(root)
    return None


def _programs(root: Path) -> tuple[Path, Path]:
    """Return where the programs are in a directory of npm's: Bun, and what it runs."""
    modules = root / "node_modules"
    return modules / ".bin" / "bun", modules / "bunqueue" / "dist" / "main.js"


class Server(ServerProcess):
    """A running server, with an environment of its own."""

    def __init__(self, kind: Kind, directory: Path) -> None:
        """Start the program on what is in `directory` and return when `/ready` answers 200."""
        self.kind = kind
        self.directory = directory
        settings = dict(kind.environment) | UNLIMITED
        settings |= {
            "HOME": str(directory),
            "TCP_PORT": str(free_port()),  # only the original has it
            "RETENTION_COMPLETED_MAX": str(50_000),  # as many as the original keeps
        }
        super().__init__(
            directory / "queue.db", settings, command=kind.command, cwd=directory, log_path=directory / "server.log",
            inherited={name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ},
        )  # fmt: skip
        begun = time.monotonic()
        self.start()
        self.start_s = time.monotonic() - begun

    def start(self) -> None:
        """Start it.

        Raises:
            BenchError: it has ended, or is not ready in time.
        """
        try:
            super().start()
        except (RuntimeError, TimeoutError) as error:
            raise BenchError(f"{self.kind.name}: {error}") from None

    def connect(self) -> Connection:
        """Open a connection."""
        return Connection(HOST, self.port)

    def last_words(self) -> str:
        """Return the last lines that it wrote."""
        return " / ".join(self.log.split("\n")[-4:]).strip(" /") or "(no output)"

    def cpu_s(self) -> float:
        """Return the CPU seconds that the process and its children have used, in steps of the kernel's clock tick."""
        return sum(cpu_ticks(pid) for pid in family(self.process.pid)) / TICKS_PER_S

    def rss_bytes(self) -> int:
        """Return the resident memory of the process and its children."""
        return sum(rss_bytes(pid) for pid in family(self.process.pid))

    def pushed(self) -> int:
        """Return how many jobs the server says it was given: what the load generator says is compared with it."""
        with self.connect() as connection:
            return int(connection.get("/metrics")["metrics"]["totalPushed"])

    def collect_garbage(self) -> None:
        """Ask for a collection, so that memory is compared without what is only waiting to be collected."""
        with self.connect() as connection:
            connection.request("POST", "/gc")

    def stop(self, signum: int = signal.SIGTERM, within_s: float = STOP_WITHIN_S) -> int:
        """End it as an operator would, with everything on disk.

        Raises:
            BenchError: it does not end.
        """
        try:
            return super().stop(signum, within_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise BenchError(f"{self.kind.name} did not stop within {within_s:.0f} s") from None


@contextmanager
def running(kind: Kind, data_dir: Path | None = None) -> Iterator[Server]:
    """Run a server on fresh data, which are removed with it."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=data_dir, ignore_cleanup_errors=True) as directory:
        server = Server(kind, Path(directory))
        try:
            yield server
        finally:
            server.kill()


def family(pid: int) -> list[int]:
    """Return `pid` and all processes below it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = _stat(int(entry.name))
            except OSError:
                continue  # it ended meanwhile
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    members = [pid]
    for member in members:
        members += children.get(member, [])
    return members


def cpu_ticks(pid: int) -> int:
    """Return the clock ticks of user and system time of a process and of its children that have ended."""
    try:
        return sum(int(value) for value in _stat(pid)[11:15])
    except OSError:
        return 0  # it ended meanwhile


def rss_bytes(pid: int) -> int:
    """Return the resident set of a process."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0  # it ended meanwhile


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the name, which may hold blanks and brackets itself."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
