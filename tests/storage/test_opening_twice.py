"""A file that is in use: its lock, its names, and the modes of what lies beside it."""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from bunqueue_trio.errors import StartupError, StoreError
from bunqueue_trio.storage.sqlite import SqliteStore, opening
from bunqueue_trio.storage.sqlite.inspect import copy
from bunqueue_trio.storage.sqlite.opening import APPLICATION_ID
from bunqueue_trio.storage.sqlite.shrink import shrink
from tests.storage.found_files import database, our_own
from tests.storage.ledger import Ledger, loaded, make_job


def test_a_file_locked_by_a_tool_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bunqueue_trio.storage.sqlite.store._OPEN_BUSY_MS", 1)
    path = tmp_path / "queue.db"
    tool = database(path, "PRAGMA locking_mode=EXCLUSIVE", f"PRAGMA application_id={APPLICATION_ID}", "BEGIN EXCLUSIVE")
    with pytest.raises(StartupError, match=r"cannot be opened as a store: database is locked$"):
        SqliteStore(path)
    tool.close()
    SqliteStore(path).close()


# --- the lock ---------------------------------------------------------------------------------------


def test_a_file_in_use_by_another_server_is_refused_until_that_has_ended(tmp_path: Path):
    path = tmp_path / "queue.db"
    first = SqliteStore(path)
    Ledger(first).write([make_job(1)])
    with pytest.raises(StartupError, match=f"^{re.escape(str(path))}: is in use by a server: stop that one first$"):
        SqliteStore(path)
    Ledger(first).write([make_job(2)])
    first.close()
    second = SqliteStore(path)
    assert list(loaded(second)) == ["job-1", "job-2"]
    second.close()


def test_a_lock_that_the_system_does_not_give_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def flock(descriptor: int, how: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(opening.fcntl, "flock", flock)
    with pytest.raises(StartupError, match=r"cannot be locked: No locks available$"):
        SqliteStore(tmp_path / "queue.db")


def test_a_closed_store_leaves_one_file_and_the_lock(tmp_path: Path):
    our_own(tmp_path / "queue.db")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["queue.db", "queue.db.lock"]


def test_closing_twice_does_not_close_somebody_elses_descriptor(tmp_path: Path):
    store = SqliteStore(tmp_path / "queue.db")
    store.close()
    descriptor = os.open(tmp_path, os.O_RDONLY)
    store.close()
    os.close(descriptor)


# --- the file -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [":memory:", "file:x?mode=memory", "a?b#c%41", "ünï 🐇.db"])
def test_any_name_is_that_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.chdir(tmp_path)
    for seq in (1, 2):
        store = SqliteStore(name)
        Ledger(store).write([make_job(seq)])
        store.close()
    store = SqliteStore(tmp_path / name)
    assert list(loaded(store)) == ["job-1", "job-2"]
    store.close()


@pytest.fixture
def umask() -> Iterator[None]:
    """The usual one, by which new files are everybody's to read."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_a_new_store_is_its_owners_alone_and_so_is_what_lies_beside_it(tmp_path: Path):
    store = SqliteStore(tmp_path / "queue.db")
    Ledger(store).write([make_job(1)])
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    store.close()
    assert modes == dict.fromkeys(["queue.db", "queue.db-wal", "queue.db-shm", "queue.db.lock"], 0o600)


@pytest.mark.usefixtures("umask")
def test_a_store_that_is_there_keeps_its_mode(tmp_path: Path):
    path = tmp_path / "queue.db"
    our_own(path)
    path.chmod(0o640)
    store = SqliteStore(path)
    Ledger(store).write([make_job(9)])
    modes = [stat.S_IMODE(Path(f"{path}{suffix}").stat().st_mode) for suffix in ("", "-wal")]
    store.close()
    assert modes == [0o640, 0o640]


def test_a_lock_that_is_a_link_is_refused_and_makes_nothing_elsewhere(tmp_path: Path):
    (tmp_path / "queue.db.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StartupError, match=r"queue\.db\.lock: is a symbolic link"):
        SqliteStore(tmp_path / "queue.db")
    assert not (tmp_path / "elsewhere").exists()


def test_a_link_to_nothing_is_refused_and_makes_nothing_elsewhere(tmp_path: Path):
    (tmp_path / "queue.db").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StartupError, match="cannot be opened as a store"):
        SqliteStore(tmp_path / "queue.db")
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_in_use_is_in_use_by_each_of_its_names(tmp_path: Path):
    path, linked, hard = tmp_path / "queue.db", tmp_path / "linked.db", tmp_path / "hard.db"
    our_own(path)
    linked.symlink_to(path)
    store = SqliteStore(linked)
    assert Path(f"{path}.lock").exists()
    with pytest.raises(StartupError, match=r"queue\.db: is in use by a server"):
        SqliteStore(path)
    hard.hardlink_to(path)
    for name in (path, hard):
        with pytest.raises(StartupError, match="has a second name"):
            SqliteStore(name)
    hard.unlink()
    store.close()
    SqliteStore(path).close()


@pytest.mark.parametrize("is_new", [True, False])
def test_a_file_in_use_is_in_use_by_the_name_that_it_gets(tmp_path: Path, is_new: bool):
    """It is renamed, or its lock is lost, while a server runs: another one would write it beside another log."""
    path, moved = tmp_path / "queue.db", tmp_path / "moved.db"
    if not is_new:
        our_own(path)
    store = SqliteStore(path)
    Ledger(store).write([make_job(5)])
    path.rename(moved)
    with pytest.raises(
        StartupError, match=r"moved\.db: is in use by a server that opened it by another name: stop that one first$"
    ):
        SqliteStore(moved)
    with pytest.raises(StartupError, match=r"moved\.db: is in use"):
        shrink(moved, lambda done, total: None)
    with pytest.raises(StoreError, match=r"moved\.db: a server has it by another name"):
        copy(moved, tmp_path / "copy.db", lambda done, total: None, overwrite=False)
    moved.rename(path)
    copy(path, tmp_path / "copy.db", lambda done, total: None, overwrite=False)
    Path(f"{path}.lock").unlink()
    with pytest.raises(StartupError, match=r"queue\.db: is in use by a server"):
        SqliteStore(path)
    store.close()
    again = SqliteStore(path)
    assert "job-5" in loaded(again)
    again.close()


def test_who_only_asks_whether_a_file_is_in_use_stops_no_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "queue.db"
    our_own(path)
    asker = os.open(path, os.O_RDONLY)
    opening.fcntl.flock(asker, opening.fcntl.LOCK_SH)
    monkeypatch.setattr(opening.time, "sleep", lambda seconds: opening.fcntl.flock(asker, opening.fcntl.LOCK_UN))
    SqliteStore(path).close()
    os.close(asker)


@pytest.mark.parametrize("end", ["-wal", "-shm", "-journal", ".lock"])
def test_a_file_that_lies_beside_a_store_is_no_store(tmp_path: Path, end: str):
    with pytest.raises(StartupError, match="is the name of a file that lies beside a store"):
        SqliteStore(tmp_path / f"queue.db{end}")
    assert not list(tmp_path.iterdir())
