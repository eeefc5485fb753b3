"""A whole queue from a file to a database, and back: nothing is missing, nothing differs, and no half of it is ever a store."""

import itertools
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from bunqueue_trio.errors import StartupError, StoreError
from bunqueue_trio.storage import copying
from bunqueue_trio.storage.copying import TABLES, copy_store
from bunqueue_trio.storage.sqlite import SqliteStore
from bunqueue_trio.storage.sqlite import copying as file_copying
from bunqueue_trio.storage.sqlite.copying import held, made
from bunqueue_trio.storage.sqlite.inspect import examine
from tests.storage.copies import ask, copy, rows, run, served
from tests.storage.copies import database as database
from tests.storage.copies import filled_once as filled_once
from tests.storage.copies import full as full
from tests.storage.ledger import Ledger, make_job

NAMES = [table.name for table in TABLES]


# --- files ---------------------------------------------------------------------------------------


def test_a_file_is_copied_whole_and_servers_answer_alike(full: Path, tmp_path: Path):
    told: list[tuple[int, int]] = []
    copied = copy(held(full), made(tmp_path / "new.db"), lambda *progress: told.append(progress))
    assert [each.table for each in copied] == NAMES
    assert [each.rows for each in copied] == [len(found) for found in rows(full).values()]
    assert all(each.rows for each in copied)
    assert len({each.digest for each in copied}) == len(NAMES)
    assert told == sorted(told)
    assert told[-1] == (2 * sum(each.rows for each in copied),) * 2
    assert rows(full) == rows(tmp_path / "new.db")
    # Two of its facts are of nobody who could read them.
    unreadable = ["facts cannot be read: 2 (figures of q, k\x00 of \x01)"]
    assert [examine(file, lambda _: None).findings for file in (full, tmp_path / "new.db")] == [unreadable, unreadable]
    assert (tmp_path / "new.db").stat().st_mode & 0o777 == 0o600
    assert served(full) == served(tmp_path / "new.db")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("new.db.copied")]


def test_an_empty_store_is_a_target_and_keeps_its_mode(full: Path, tmp_path: Path):
    target = tmp_path / "empty.db"
    SqliteStore(target).close()
    target.chmod(0o640)
    (tmp_path / "empty.db-wal").write_bytes(b"")
    for left in ("empty.db.copied", "empty.db.copied-journal"):
        (tmp_path / left).write_bytes(b"left by a run that was killed")
    done = run(full, target)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].endswith(" rows, both read once more and the same")
    assert target.stat().st_mode & 0o777 == 0o640
    assert rows(full) == rows(target)
    assert sorted(path.name for path in tmp_path.glob("empty.db*")) == ["empty.db", "empty.db.lock"]


def test_a_file_is_not_copied_to_itself_whatever_name_it_is_called_by(full: Path, tmp_path: Path):
    link = tmp_path / "link.db"
    link.symlink_to(full)
    before = full.read_bytes()
    for target in (full, link, full.parent / "." / full.name):
        refused = run(full, target)
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert f"{target}: is what is copied from" in refused.stderr
    assert full.read_bytes() == before


def test_a_zero_byte_file_is_a_target(full: Path, tmp_path: Path):
    (tmp_path / "new.db").touch()
    copy(held(full), made(tmp_path / "new.db"))
    assert rows(full) == rows(tmp_path / "new.db")


def test_what_a_killed_server_had_in_its_log_comes_along(full: Path, tmp_path: Path):
    store = SqliteStore(full)
    Ledger(store).write([make_job(999, "late")])
    for end in ("", "-wal"):
        shutil.copy(f"{full}{end}", f"{tmp_path}/killed.db{end}")
    store.close()
    copy(held(tmp_path / "killed.db"), made(tmp_path / "new.db"))
    assert "late" in {row[1] for row in rows(tmp_path / "new.db")["job"]}


def test_what_cannot_be_copied_or_copied_to_is_one_line_and_nothing_changes(full: Path, tmp_path: Path):
    before = rows(full)
    for source, target, why in (
        (tmp_path / "none.db", tmp_path / "new.db", "there is no such file"),
        (full, tmp_path / "none" / "new.db", "there is no directory"),
        (full, full, "is what is copied from"),
        (full, tmp_path, "is not a file"),
        (Path(shutil.copy(full, tmp_path / "other.db")), full, "holds something already: its table job is not empty"),
    ):
        done = run(source, target)
        assert (done.exit_code, done.stdout) == (1, "")
        assert why in done.stderr
        assert done.stderr.count("\n") == 1
        assert not (tmp_path / "new.db").exists()
    assert rows(full) == before


def test_a_server_at_either_end_is_named(full: Path, tmp_path: Path):
    store = SqliteStore(full)
    try:
        assert f"{full}: is in use by a server" in run(full, tmp_path / "new.db").stderr
    finally:
        store.close()
    store = SqliteStore(tmp_path / "new.db")
    try:
        assert f"{tmp_path / 'new.db'}: is in use by a server" in run(full, tmp_path / "new.db").stderr
    finally:
        store.close()


def test_a_file_of_another_version_or_a_damaged_one_is_refused(full: Path, tmp_path: Path):
    old = Path(__file__).parent / "files" / "schema3.store"
    shutil.copy(old, tmp_path / "old.db")
    with pytest.raises(StoreError, match="its schema is of version 3, this one copies 5; start a server with it once"):
        copy(held(tmp_path / "old.db"), made(tmp_path / "new.db"))
    shutil.copy(old, tmp_path / "too.db")
    assert (
        run(tmp_path / "too.db", tmp_path / "old.db").exit_code == 1
    )  # and it is no target either, as it has something
    damaged = bytearray(full.read_bytes())
    damaged[5 * 4096 : 5 * 4096 + 200] = bytes(200)
    full.write_bytes(damaged)
    with pytest.raises(StoreError, match=r"is damaged|cannot be read"):
        copy(held(full), made(tmp_path / "new.db"))


def test_a_row_that_cannot_be_read_is_the_fault_of_the_source(
    full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Broken:
        def execute(self, _: str) -> Any:
            raise apsw.CorruptError("malformed")

    with held(full) as source, made(tmp_path / "new.db"):
        monkeypatch.setattr(source, "_connection", Broken())
        with pytest.raises(StoreError, match=r"full\.db: cannot be read: malformed"):
            next(source.rows(TABLES[0]))
        monkeypatch.undo()
    assert not (tmp_path / "new.db").exists()


@pytest.mark.parametrize(
    ("error", "words"),
    [(OSError(28, "No space left"), "No space left"), (apsw.FullError("disk is full"), "disk is full")],
)
def test_a_full_disk_leaves_nothing(
    full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
):
    def refuse(self: Any) -> None:
        raise error

    monkeypatch.setattr(file_copying.FileTarget, "finish", refuse)
    with pytest.raises(StoreError, match=rf"new\.db: cannot be written: {words}"):
        copy(held(full), made(tmp_path / "new.db"))
    assert [path.name for path in tmp_path.glob("new*")] == ["new.db.lock"]


def test_a_copy_that_is_not_finished_is_no_store(full: Path, tmp_path: Path):
    """Whoever gives such a file to a server learns what it is; the name of a store it gets at the end only."""
    half = tmp_path / "new.db.copied"

    def look(done: int, total: int) -> None:
        if done:
            shutil.copy(half, tmp_path / "half.db")
            assert not (tmp_path / "new.db").exists()

    copy(held(full), made(tmp_path / "new.db"), look)
    with pytest.raises(StartupError, match=r"half\.db: is a copy that was not finished; delete it"):
        SqliteStore(tmp_path / "half.db")
    SqliteStore(tmp_path / "new.db").close()


def change(table: str, key: str, value: object) -> Callable[[Any], Any]:
    return lambda connection: connection.execute(f"UPDATE {table} SET {key} = ? WHERE rowid = (SELECT max(rowid) FROM {table})", (value,))  # fmt: skip


@pytest.mark.parametrize(
    ("spoil", "row"),
    [
        (change("job", "progress", 50), "row 900 of the table job"),
        (lambda connection: connection.execute("DELETE FROM finished WHERE fin = 1"), "row 1 of the table finished"),
        (lambda connection: connection.execute("INSERT INTO fact VALUES ('z', 'y', x'')"), "row z y of the table fact"),
    ],
)
def test_a_copy_that_differs_is_none(full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Any, row: str):
    """A number that is written in another way, a row too few, one too many: it is found, and the row is named."""
    written = file_copying.FileTarget.written

    def spoiled(self: Any) -> None:
        spoil(self._connection)
        written(self)

    monkeypatch.setattr(file_copying.FileTarget, "written", spoiled)
    with pytest.raises(StoreError, match=rf"new\.db: is not what was copied: {row} differs"):
        copy(held(full), made(tmp_path / "new.db"))
    assert not (tmp_path / "new.db").exists()


def test_a_copy_that_is_damaged_is_none(full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    written = file_copying.FileTarget.written

    def spoiled(self: Any) -> None:
        self.close()
        with self._unfinished.open("r+b") as file:
            file.seek(5 * 4096)
            file.write(bytes(200))
        written(self)

    monkeypatch.setattr(file_copying.FileTarget, "written", spoiled)
    with pytest.raises(StoreError, match=r"new\.db: (the copy is damaged|cannot be written)"):
        copy(held(full), made(tmp_path / "new.db"))
    assert not (tmp_path / "new.db").exists()


def test_memory_is_bounded_by_rows_and_by_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = SqliteStore(tmp_path / "q.db")
    Ledger(store).write([make_job(n, data=b'"' + b"x" * 1000 + b'"') for n in range(1, 301)])
    store.close()
    monkeypatch.setattr(file_copying, "_SLICE_ROWS", 50)
    monkeypatch.setattr(file_copying, "_SLICE_BYTES", 20_000)
    monkeypatch.setattr(copying, "_TELL_ROWS", 70)
    monkeypatch.setattr(copying, "_TELL_BYTES", 30_000)
    given = taken = most = 0

    class Counted(file_copying.FileHeld):
        def rows(self, table: Any) -> Iterator[Any]:
            nonlocal given
            for row in super().rows(table):
                given += table.name == "job"
                yield row

    told: list[int] = []

    def note(done: int, total: int) -> None:
        nonlocal most, taken
        told.append(done)

    with held(tmp_path / "q.db") as source, made(tmp_path / "new.db") as target:
        executemany = target._connection.executemany

        class Noted:
            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

            def executemany(self, statement: str, some: list[Any]) -> Any:
                nonlocal most
                most = max(most, len(some))
                return executemany(statement, some)

        real = target._connection
        target._connection = Noted()  # type: ignore[assignment]
        copy_store(source, target, note)
    assert most == 20
    assert max(later - earlier for earlier, later in itertools.pairwise(told)) <= 30
    assert len(rows(tmp_path / "new.db")["job"]) == 300


_KILLED = """
import os, signal, sys
from contextlib import ExitStack
from pathlib import Path
from tests.storage.copies import of
from bunqueue_trio.storage import copying
copying._TELL_ROWS = 1
name = lambda text: text if "://" in text else Path(text)
def die(done, total):
    if done >= int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
with ExitStack() as stack:
    copying.copy_store(*map(stack.enter_context, of(name(sys.argv[1]), name(sys.argv[2]))), die)
"""


def kill_at(row: int, source: Path | str, target: Path | str) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED, str(source), str(target), str(row)], check=False, stderr=subprocess.PIPE
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()


@pytest.mark.slow
def test_a_copy_that_is_killed_is_none_and_the_next_one_is_whole(full: Path, database: str, tmp_path: Path):
    """In the middle of the rows on the way there, in the middle of the comparison on the way back."""
    kill_at(60, full, database)
    assert ask(database, "SELECT (SELECT count(*) FROM bq.job) + (SELECT count(*) FROM bq.finished)") == [(0,)]
    assert "a server leads there" in run(full, database).stderr  # whoever was killed has the lease
    ask(database, "UPDATE bq.leader SET beat = '-infinity'")
    assert run(full, database).exit_code == 0
    kill_at(250, database, tmp_path / "back.db")
    assert not (tmp_path / "back.db").exists()
    with pytest.raises(StartupError, match="is a copy that was not finished"):
        SqliteStore(tmp_path / "back.db.copied")
    ask(database, "UPDATE bq.leader SET beat = '-infinity'")
    assert run(database, tmp_path / "back.db").exit_code == 0
    assert rows(full) == rows(tmp_path / "back.db")
