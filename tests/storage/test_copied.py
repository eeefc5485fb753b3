"""Copies that a running store makes of itself, and the directory that they are in."""

import resource
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import apsw
import pytest

from bunqueue_trio.errors import StoreDamaged, StoreError, StoreGone
from bunqueue_trio.storage import copies
from bunqueue_trio.storage.copies import Copy, Place, clear, look_at, name_of
from bunqueue_trio.storage.memory import MemoryStore
from bunqueue_trio.storage.sqlite import SqliteStore, inspect
from tests.operations.stores import spoil
from tests.storage.damaged import overwrite
from tests.storage.ledger import Ledger, loaded, make_job

AT = int(datetime(2026, 11, 30, 2, 7, 9, tzinfo=UTC).timestamp() * 1000)
NAME = "queue-20261130T020709Z.db"


@pytest.fixture
def store(tmp_path: Path):
    running = SqliteStore(tmp_path / "queue.db")
    Ledger(running).write([make_job(seq, f"job-{seq}", data=b'"%s"' % (b"x" * 500)) for seq in range(1, 100)])
    yield running
    running.close()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "copies"
    made.mkdir()
    return made


def ignore(done: int, total: int) -> None:
    """Hear how far it is."""


def test_a_running_store_copies_itself_as_it_is_for_its_owner_alone(store: SqliteStore, directory: Path):
    assert store.file == store.path
    Path(store.path).chmod(0o644)
    target, told = directory / "copy.db", []
    assert store.copy_to(target, lambda *far: told.append(far)) == target.stat().st_size
    assert target.stat().st_mode & 0o777 == 0o600
    assert told[-1][0] == told[-1][1] > 0
    assert [each.name for each in directory.iterdir()] == ["copy.db"]
    ledger = Ledger(store)
    ledger.write([make_job(1000, "later")])
    copied = SqliteStore(target)
    assert "job-7" in loaded(copied)
    assert "later" not in loaded(copied)
    copied.close()


def test_a_copy_lets_go_of_no_lock_of_the_server(store: SqliteStore, directory: Path, tmp_path: Path):
    """Another program that closes the file as its last user would remove the log, with all that is in it."""
    log = tmp_path / "queue.db-wal"
    assert log.stat().st_size > 0
    store.copy_to(directory / "copy.db", ignore)
    look = f"import apsw; c = apsw.Connection({str(store.path)!r}); c.execute('SELECT count(*) FROM job').fetchall(); c.close()"
    subprocess.run([sys.executable, "-c", look], check=True)
    assert log.exists()
    Ledger(store).write([make_job(1000, "later")])
    assert "later" in loaded(store)


def test_a_disk_that_takes_no_more_is_called_what_it_is(store: SqliteStore, directory: Path):
    target, limits = directory / "copy.db", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(StoreError, match="cannot be written: disk I/O error"):
            store.copy_to(target, ignore)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(directory.iterdir()) == []


def test_what_hears_how_far_a_copy_is_may_end_it(store: SqliteStore, directory: Path):
    def enough(done: int, total: int) -> None:
        raise StoreError("enough")

    with pytest.raises(StoreError, match="enough"):
        store.copy_to(directory / "copy.db", enough)
    assert list(directory.iterdir()) == []
    Ledger(store).write([make_job(1000, "later")])


@pytest.mark.parametrize("loose", [False, True], ids=["page by page", "without what is free"])
def test_damage_that_a_copy_meets_is_known_from_then_on(store: SqliteStore, directory: Path, *, loose: bool):
    if loose:
        spoil(store.path, "CREATE TABLE peak (x)", "INSERT INTO peak VALUES (zeroblob(1000000))", "DROP TABLE peak")
    store.checkpoint(restart=True)
    if loose:
        overwrite(store.path, "job")
    else:
        with store.path.open("r+b") as file:
            file.write(b"\xff" * 4096)
    assert store.damage is None
    with pytest.raises(StoreDamaged):
        store.copy_to(directory / "copy.db", ignore)
    assert store.damage is not None
    assert list(directory.iterdir()) == []


def test_a_file_that_was_moved_is_not_copied(store: SqliteStore, directory: Path, tmp_path: Path):
    shutil.move(store.path, tmp_path / "elsewhere.db")
    with pytest.raises(StoreGone):
        store.copy_to(directory / "copy.db", ignore)


def test_a_store_without_a_file_says_so(tmp_path: Path):
    store = MemoryStore()
    assert store.file is None
    assert not store.shrinks
    with pytest.raises(StoreError, match="no file"):
        store.copy_to(tmp_path / "copy.db", ignore)


def test_only_a_file_that_can_give_pages_back_says_so(tmp_path: Path):
    old = tmp_path / "old.db"
    connection = apsw.Connection(str(old))
    connection.execute("PRAGMA auto_vacuum=NONE; CREATE TABLE t (x); DROP TABLE t").fetchall()
    connection.close()
    for path, can in ((old, False), (tmp_path / "new.db", True)):
        store = SqliteStore(path)
        assert store.shrinks == can
        store.close()


# --- the directory ------------------------------------------------------------------------------------


def test_a_copy_is_called_as_its_file_and_its_moment(tmp_path: Path):
    assert name_of(tmp_path / "queue.db", AT + 999) == NAME
    assert name_of(tmp_path / "100%.sqlite", AT) == "100%.sqlite-20261130T020709Z.db"
    assert name_of(Path("\udcff.db"), AT) == "\udcff-20261130T020709Z.db", "bytes that are no UTF-8"
    later = "queue-20261130T020710Z.db"
    assert name_of(tmp_path / "queue.db", AT, {NAME}) == later
    assert name_of(tmp_path / "queue.db", AT, {NAME, later}) == "queue-20261130T020711Z.db"


def test_a_directory_has_the_copies_of_one_file_oldest_first(directory: Path, tmp_path: Path):
    file = tmp_path / "queue.db"
    file.touch()
    for name in (
        NAME, "queue-20251130T020709Z.db", "queue-2026113T020709Z.db", "queue-20261399T020709Z.db", f"{NAME}.partial",
        "other-20261130T020709Z.db", "queue.db", "queue-20261130T020709Z.db.gz",
    ):  # fmt: skip
        (directory / name).write_bytes(b"four")
    (directory / "queue-20221130T020709Z.db").touch()
    (directory / "queue-20221130T020709Z.db.lock").touch()
    (directory / "queue.sqlite-20261130T020709Z.db").touch()
    others = [f"queue-2025{month:02}{day:02}T000000Z.db" for month in range(1, 11) for day in (28, 3, 15)]
    for name in others:
        (directory / name).write_bytes(b"four")
    (directory / "queue-20241130T020709Z.db").mkdir()
    (directory / "queue-20231130T020709Z.db").symlink_to(directory / NAME)
    place = look_at(directory, file)
    assert place.error is None
    assert place.copies[-1] == Copy(NAME, AT, 4)
    assert [each.name for each in place.copies] == [*sorted(others), "queue-20251130T020709Z.db", NAME]
    assert place.room > 0
    assert place.is_shared


def test_what_is_wrong_with_a_directory_is_said(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "queue.db"
    assert look_at(tmp_path / "none", file) == Place("there is no such directory")
    assert look_at(tmp_path / ("x" * 300), file) == Place("File name too long")
    assert look_at(directory, tmp_path / "none" / "queue.db") == Place("No such file or directory")
    monkeypatch.setattr(copies.os, "access", lambda *_: False)
    assert look_at(directory, file) == Place("the server may not write there")


def test_what_a_killed_process_has_left_of_copies_of_this_file_is_cleared_away(directory: Path, tmp_path: Path):
    left, theirs = f"{NAME}.partial", "other-20261130T020709Z.db.partial"
    for name in (left, f"{left}-journal", theirs, NAME, "notes.partial"):
        (directory / name).touch()
    clear(directory, tmp_path / "queue.db")
    assert sorted(each.name for each in directory.iterdir()) == sorted([NAME, "notes.partial", theirs])


@pytest.mark.parametrize("is_loose", [True, False])
def test_a_copy_that_somebody_else_holds_is_one_that_cannot_be_written(
    store: SqliteStore, directory: Path, monkeypatch: pytest.MonkeyPatch, is_loose: bool
):
    holders: list[apsw.Connection] = []

    def hold(path: Path) -> None:
        holders.append(apsw.Connection(str(path)))
        holders[0].execute("CREATE TABLE t (a); BEGIN EXCLUSIVE")

    monkeypatch.setattr(inspect, "make_private", hold)
    monkeypatch.setattr(inspect, "is_loose", lambda *_: is_loose)
    with pytest.raises(StoreError, match="cannot be written"):
        store.copy_to(directory / "copy.db", ignore)
    holders[0].close()
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("is_loose", [True, False])
def test_a_copy_may_be_ended_while_it_is_looked_over(
    store: SqliteStore, directory: Path, monkeypatch: pytest.MonkeyPatch, is_loose: bool
):
    """All of it is written, and a look at a large one takes a while."""
    monkeypatch.setattr(inspect, "_PROGRESS_STEPS", 1)
    monkeypatch.setattr(inspect, "is_loose", lambda *_: is_loose)
    after = 0

    def hear(done: int, total: int) -> None:
        nonlocal after
        after += (done, total) == (1, 1)
        if after == 100:
            raise StoreError("no more")

    with pytest.raises(StoreError, match="no more"):
        store.copy_to(directory / "copy.db", hear)
    assert list(directory.iterdir()) == []
