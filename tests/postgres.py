"""A PostgreSQL of the tests' own: one for a run, whatever number of processes share it; ended by the one that has started it.

Never as root, without fsync, and reached by a Unix socket only. Where there is none, the tests that need one are skipped.
"""

import fcntl
import itertools
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

STARTS_WITHIN_S = 60
_SETTINGS = {
    "listen_addresses": "", "fsync": "off", "max_connections": "200", "log_min_messages": "fatal", "autovacuum_naptime": "5s",
    "shared_buffers": "16MB", "max_wal_size": "256MB", "restart_after_crash": "on",
}  # fmt: skip


def binaries() -> Path | None:
    """Where ``initdb`` and ``postgres`` are, the newest of them; None: nowhere."""
    found = shutil.which("postgres")
    if found is not None:
        return Path(found).resolve().parent
    every = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parent.parent.name))
    return every[-1].parent if every else None


def why_not() -> str | None:
    """Why there is no PostgreSQL for tests; None: there is one."""
    if find_spec("psycopg") is None:
        return "psycopg is not installed"
    if binaries() is None:
        return "there is no PostgreSQL on this machine"
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        return "PostgreSQL does not run as root, and there is no setpriv"
    return None


class Cluster:
    """A running PostgreSQL, by the directory of its socket."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._schemas = itertools.count()

    def url(self, schema: str) -> str:
        """The store in a schema of its database."""
        return f"postgres://bq@/postgres?host={self.directory}&schema={schema}"

    def new_url(self) -> str:
        """A store that nobody else uses."""
        return self.url(f"t{os.getpid()}_{next(self._schemas)}")


class Server(Cluster):
    """One that is started, and ended, here; in a directory of its own, since a path in ``--basetemp`` may be too long."""

    def __init__(self, **settings: str) -> None:
        self._settings = _SETTINGS | settings
        super().__init__(Path(tempfile.mkdtemp(prefix="bqpg")))
        self._process: subprocess.Popen[bytes] | None = None
        self._frozen: list[int] = []
        if os.geteuid() == 0:
            os.chown(self.directory, pwd.getpwnam("nobody").pw_uid, -1)
        self._run("initdb", "-D", self._data, "-A", "trust", "-U", "bq", "-E", "UTF8", "--locale=C", "-N")
        self.start()

    @property
    def _data(self) -> str:
        return str(self.directory / "data")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        command = self._command("postgres", "-D", self._data, "-k", str(self.directory), *settings)
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + STARTS_WITHIN_S
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise AssertionError((self.directory / "log").read_text())
            time.sleep(0.05)

    def answers(self) -> bool:
        """Whether it takes connections."""
        import psycopg

        try:
            psycopg.connect(host=str(self.directory), user="bq", dbname="postgres").close()
        except psycopg.Error:
            return False
        return True

    def write_no_more(self) -> None:
        """Keep in memory, until it ends, what it has committed without a promise to write it."""
        import psycopg

        with psycopg.connect(host=str(self.directory), user="bq", dbname="postgres") as connection:
            rows = connection.execute("SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'").fetchall()
        self._frozen = [row[0] for row in rows]
        for process in self._frozen:
            os.kill(process, signal.SIGSTOP)

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """End it, at once unless ``how`` says otherwise."""
        if self._process is not None:
            self._process.send_signal(how)
            while self._frozen:
                os.kill(self._frozen.pop(), signal.SIGKILL)
            self._process.wait(STARTS_WITHIN_S)
            self._process = None

    def close(self) -> None:
        """End it, and leave nothing."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def _bin(self) -> Path:
        found = binaries()
        assert found is not None
        return found

    def _command(self, program: str, *arguments: str) -> list[str]:
        command = [str(self._bin / program), *arguments]
        if os.geteuid() != 0:
            return command
        nobody = pwd.getpwnam("nobody")
        # It ends with this process, however that ends.
        ids = (f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups", "--pdeathsig=QUIT")
        return ["setpriv", *ids, *command]

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(self._command(program, *arguments), capture_output=True, text=True, check=False, cwd="/")
        assert done.returncode == 0, done.stderr


@contextmanager
def shared(base: Path) -> Iterator[Cluster]:
    """Give the cluster of this run, whose processes share the directory ``base``; the first to ask starts it."""
    note, users = base / "postgres", base / "postgres.users"
    with users.open("a") as held:
        with (base / "postgres.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            mine = None if note.exists() else Server()
            if mine is not None:
                note.write_text(str(mine.directory))
            fcntl.flock(held, fcntl.LOCK_SH)
        try:
            yield mine or Cluster(Path(note.read_text()))
        finally:
            fcntl.flock(held, fcntl.LOCK_UN)
            if mine is not None:
                deadline = time.monotonic() + STARTS_WITHIN_S
                while time.monotonic() < deadline:  # others may still use it
                    with suppress(BlockingIOError):
                        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    time.sleep(0.05)
                note.unlink()
                mine.close()


def run_directory(base: Path) -> Path:
    """The directory that all processes of this run have in common; ``base`` is where the temporary ones are."""
    return base.parent if re.fullmatch(r"popen-gw\d+", base.name) else base


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The PostgreSQL of this run."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with shared(run_directory(tmp_path_factory.getbasetemp())) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def empty_url(postgres: Cluster) -> str:
    """A store with its tables, for whoever empties it first."""
    from bunqueue_trio.storage.postgres.place import parse_place
    from bunqueue_trio.storage.postgres.schema import migrate

    url = postgres.new_url()
    migrate(parse_place(url))
    return url


@pytest.fixture
def url(empty_url: str) -> str:
    """A store with its tables and nothing in them."""
    from bunqueue_trio.storage.postgres.link import Link
    from bunqueue_trio.storage.postgres.place import parse_place

    place = parse_place(empty_url)
    link = Link(place.conninfo)
    tables = ("job", "finished", "event_batch", "fact", "trail", "term", "waiting")
    link.run_script(place.qualified("; ".join(f"DELETE FROM bq.{table}" for table in tables)))
    link.run_script(
        place.qualified(
            "INSERT INTO bq.leader VALUES (true, 0, gen_random_uuid(), 0, NULL, '', '-infinity', '0') "
            "ON CONFLICT (one) DO UPDATE SET term = 0, batch = 0, beat = '-infinity', start_jobs = NULL, start_s = NULL"
        )
    )
    link.close()
    return empty_url
