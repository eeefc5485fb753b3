"""Opening a file: what stops a start says so in one line, and leaves every byte as it was."""

import hashlib
import os
import re
import shutil
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import apsw
import pytest

from bunqueue_trio.errors import StartupError, StoreError
from bunqueue_trio.storage.sqlite import SqliteStore, opening
from bunqueue_trio.storage.sqlite.meaning import is_full
from bunqueue_trio.storage.sqlite.opening import APPLICATION_ID, migrations
from tests.storage.found_files import database, our_own
from tests.storage.ledger import loaded


def contents(directory: Path) -> dict[str, str]:
    """Every file and its hash, but for the lock, which is made beside the store and left."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


def killed(path: Path, make: Callable[[Path], apsw.Connection]) -> None:
    """What a process leaves that is killed while it has the database open: the file and its log."""
    (path.parent / "then").mkdir()
    connection = make(path.parent / "then" / path.name)
    for suffix in ("", "-wal"):
        shutil.copy(path.parent / "then" / f"{path.name}{suffix}", f"{path}{suffix}")
    connection.close()
    shutil.rmtree(path.parent / "then")


WAL = "PRAGMA journal_mode=WAL"


def foreign(path: Path) -> None:
    database(path, "CREATE TABLE theirs (a)").close()


def foreign_with_id(path: Path) -> None:
    database(path, "PRAGMA application_id=7").close()


def foreign_in_wal(path: Path) -> None:
    database(path, WAL, "CREATE TABLE theirs (a)").close()


def foreign_killed(path: Path) -> None:
    killed(path, lambda place: database(place, WAL, "CREATE TABLE theirs (a)"))


def newer(path: Path) -> None:
    our_own(path, "PRAGMA user_version=99")


def newer_killed(path: Path) -> None:
    def make(place: Path) -> apsw.Connection:
        our_own(place)
        return database(place, "PRAGMA user_version=99")

    killed(path, make)


def text(path: Path) -> None:
    path.write_text("Dear diary, today I was taken for a database.\n" * 100)


def short_text(path: Path) -> None:
    path.write_text("x")


def magic_and_text(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" + b"is how a database begins" * 100)


def cut_short(path: Path) -> None:
    our_own(path)
    os.truncate(path, 4096 * 2 + 100)


def tables_without_version(path: Path) -> None:
    our_own(path, "PRAGMA user_version=0")


REFUSED: list[tuple[Callable[[Path], None], str]] = [
    (foreign, "is another program's database"),
    (foreign_with_id, "is another program's database"),
    (foreign_in_wal, "is another program's database"),
    (foreign_killed, "is another program's database"),
    (newer, r"was written by a newer version \(schema 99, this one knows \d+\)"),
    (newer_killed, r"was written by a newer version \(schema 99, this one knows \d+\)"),
    (text, "cannot be opened as a store: file is not a database"),
    (short_text, "is not a database"),
    (magic_and_text, "cannot be opened as a store: file is not a database"),
    (cut_short, "cannot be opened as a store: database disk image is malformed"),
    (tables_without_version, "cannot be opened as a store: table job already exists"),
]


@pytest.mark.parametrize(("make", "reason"), REFUSED, ids=[make.__name__ for make, _ in REFUSED])
def test_a_file_that_is_no_store_of_ours_is_refused_and_not_touched(
    tmp_path: Path, make: Callable[[Path], None], reason: str
):
    path = tmp_path / "queue.db"
    make(path)
    before = contents(tmp_path)
    for _ in range(2):  # the second time it would be the lock, if that had stayed
        with pytest.raises(StartupError, match=re.escape(str(path)) + f": {reason}$"):
            SqliteStore(path)
    after = contents(tmp_path)
    if make in (foreign_killed, newer_killed):  # to read a log takes its index, which SQLite leaves
        after.pop("queue.db-shm")
    assert after == before


def test_a_directory_is_refused(tmp_path: Path):
    with pytest.raises(StartupError, match=r"is not a file$"):
        SqliteStore(tmp_path)


def test_a_pipe_is_refused_without_reading_it(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StartupError, match=r"is not a file$"):
        SqliteStore(tmp_path / "pipe")


def test_a_missing_directory_is_refused_and_not_made(tmp_path: Path):
    with pytest.raises(StartupError, match=r"cannot be opened as a store: No such file or directory$"):
        SqliteStore(tmp_path / "missing" / "queue.db")
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path):
    with pytest.raises(StartupError, match=r"cannot be opened as a store: File name too long$"):
        SqliteStore(tmp_path / ("x" * 300))


def test_what_cannot_be_opened_on_a_full_disk_may_be_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "q.db").write_bytes(b"x" * 5000)
    monkeypatch.setattr("bunqueue_trio.storage.sqlite.store.is_full", lambda path: True)
    with pytest.raises(StoreError, match=r"file is not a database; there is no room left on its disk$"):
        SqliteStore(tmp_path / "q.db")


def test_of_a_disk_that_is_not_there_nobody_can_say_that_it_is_full(tmp_path: Path):
    assert not is_full(tmp_path / "no" / "such" / "file")


def test_a_read_only_file_is_refused_at_the_start_not_at_the_first_commit(commoner: Path):
    path = commoner / "queue.db"
    our_own(path)
    path.chmod(0o400)
    before = contents(commoner)
    with pytest.raises(StartupError, match=r"cannot be opened as a store: it is read-only$"):
        SqliteStore(path)
    assert contents(commoner) == before


def test_an_unreadable_file_is_refused(commoner: Path):
    path = commoner / "queue.db"
    our_own(path)
    path.chmod(0)
    with pytest.raises(StartupError, match=r"cannot be opened as a store: Permission denied$"):
        SqliteStore(path)


def test_a_directory_that_cannot_be_written_is_refused(commoner: Path):
    (commoner / "dir").mkdir()
    (commoner / "dir").chmod(0o555)
    with pytest.raises(StartupError, match=r"cannot be opened as a store: Permission denied$"):
        SqliteStore(commoner / "dir" / "queue.db")


def test_a_place_without_shared_memory_for_the_log_is_refused(tmp_path: Path):
    """Without a write-ahead log SQLite would go on in another mode, with other promises."""

    class Bare(apsw.VFS):
        def __init__(self) -> None:
            super().__init__("bare", "unix-none", makedefault=True)

    bare = Bare()
    try:
        with pytest.raises(StartupError, match=r"no write-ahead log is possible there$"):
            SqliteStore(tmp_path / "queue.db")
    finally:
        bare.unregister()


@pytest.mark.parametrize("content", [None, b""], ids=["missing", "empty"])
def test_a_missing_or_empty_file_becomes_a_store(tmp_path: Path, content: bytes | None):
    path = tmp_path / "queue.db"
    if content is not None:
        path.write_bytes(content)
    our_own(path)
    connection = database(path)
    assert connection.pragma("application_id") == APPLICATION_ID
    assert connection.pragma("user_version") == migrations()[-1][0]
    assert connection.pragma("journal_mode") == "wal"
    connection.close()


def test_a_store_killed_before_its_schema_was_in_the_file_is_opened(tmp_path: Path):
    """The schema is in the log alone then."""

    def make(place: Path) -> apsw.Connection:
        return SqliteStore(place)._writer

    killed(tmp_path / "queue.db", make)
    store = SqliteStore(tmp_path / "queue.db")
    assert list(store.load()) == []
    store.close()


# --- the schema ---------------------------------------------------------------------------------------


def test_schema_steps_are_numbered_without_a_gap_and_every_file_is_one():
    names = [entry.name for entry in files("bunqueue_trio.storage.sqlite").joinpath("schema").iterdir()]
    assert all(re.fullmatch(r"\d{4}_[a-z0-9_]+\.sql", name) for name in names), names
    assert [version for version, _ in migrations()] == list(range(1, len(names) + 1))


def test_a_file_of_an_older_schema_is_brought_to_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "queue.db"
    our_own(path)
    known = migrations()
    version = known[-1][0] + 1
    steps = [
        *known,
        (version, "CREATE TABLE added (a ANY) STRICT; CREATE INDEX added_a ON added (a)".replace("(a) S", "(a ANY) S")),
    ]
    monkeypatch.setattr(opening, "migrations", lambda: steps)
    store = SqliteStore(path)
    assert list(loaded(store)) == ["job-1"]
    store.close()
    connection = database(path)
    assert connection.pragma("user_version") == version
    assert connection.execute("SELECT count(*) FROM sqlite_schema WHERE tbl_name='added'").fetchall() == [(2,)]
    connection.close()


def test_a_step_that_fails_leaves_the_schema_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "queue.db"
    our_own(path)
    known = migrations()
    steps = [*known, (known[-1][0] + 1, "CREATE TABLE added (a); CREATE TABLE job (a)")]
    with monkeypatch.context() as patch:
        patch.setattr(opening, "migrations", lambda: steps)
        with pytest.raises(StartupError, match=r"table job already exists$"):
            SqliteStore(path)
    connection = database(path)
    assert connection.pragma("user_version") == known[-1][0]
    assert connection.execute("SELECT count(*) FROM sqlite_schema WHERE name='added'").fetchall() == [(0,)]
    connection.close()
    store = SqliteStore(path)
    assert list(loaded(store)) == ["job-1"]
    store.close()
