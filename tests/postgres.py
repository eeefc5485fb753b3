"""The PostgreSQL of a run of the tests: one, whatever number of processes share it; ended by the one that has started it.

Where there is none, the tests that need one are skipped.
"""

import fcntl
import re
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from trials.lib.postgres import STARTS_WITHIN_S, Bouncer, Cluster, Server, pgbouncer, why_not


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
    from bunqueue_trio.storage.postgres.link import DatabaseLink
    from bunqueue_trio.storage.postgres.place import parse_place

    place = parse_place(empty_url)
    link = DatabaseLink(place.conninfo)
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


@pytest.fixture(scope="module")
def bouncer(postgres: Cluster) -> Iterator[Bouncer]:
    """A PgBouncer in front of it that pools transactions."""
    if pgbouncer() is None:
        pytest.skip("there is no PgBouncer on this machine")
    with closing(Bouncer(postgres, "transaction")) as running:
        yield running
