"""A whole queue from a file to a database, and back: nothing is missing, nothing differs, and no half of it is ever a store."""

import itertools
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio
from click.testing import CliRunner, Result

from bunqueue_trio.cli import main
from bunqueue_trio.errors import StartupError, StoreError
from bunqueue_trio.storage import copying
from bunqueue_trio.storage.copying import TABLES, Copied, Held, copy_store
from bunqueue_trio.storage.sqlite import SqliteStore
from bunqueue_trio.storage.sqlite import copying as file_copying
from bunqueue_trio.storage.sqlite.copying import held, made
from bunqueue_trio.storage.sqlite.inspect import examine
from tests.storage.full_queue import answers, fill
from tests.storage.ledger import Ledger, make_job

NAMES = [table.name for table in TABLES]


def ignore(done: int, total: int) -> None:
    assert 0 <= done <= total


@pytest.fixture(scope="session")
def filled_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("full") / "q.db"
    fill(path)
    return path


@pytest.fixture
def full(filled_once: Path, tmp_path: Path) -> Path:
    """A file with everything in it."""
    return Path(shutil.copy(filled_once, tmp_path / "full.db"))


def rows(path: Path) -> dict[str, list[Any]]:
    """All that is in a file."""
    with closing(apsw.Connection(str(path))) as connection:
        return {table.name: list(connection.execute(table.rows.format(table.name))) for table in TABLES}


def copy(source: AbstractContextManager[Held], target: Any, on_progress: Any = ignore) -> list[Copied]:
    with source as original, target as empty:
        return copy_store(original, empty, on_progress)


def run(source: str | Path, target: str | Path) -> Result:
    return CliRunner().invoke(main, ["copy", "--from", str(source), "--to", str(target)])


def served(path: Path) -> list[Any]:
    """What a server on a copy of the file answers."""
    return trio.run(answers, SqliteStore(shutil.copy(path, path.with_suffix(".served"))))


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
    assert examine(tmp_path / "new.db", lambda _: None).findings == []
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


def test_a_server_at_either_end_is_told(full: Path, tmp_path: Path):
    store = SqliteStore(full)
    try:
        assert f"{full}: is in use by another server" in run(full, tmp_path / "new.db").stderr
    finally:
        store.close()
    store = SqliteStore(tmp_path / "new.db")
    try:
        assert f"{tmp_path / 'new.db'}: is in use by another server" in run(full, tmp_path / "new.db").stderr
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


# --- databases -----------------------------------------------------------------------------------


@pytest.fixture
def database(url: str) -> str:
    """A store in a database, with its tables and nothing in them."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    return url


def test_a_copy_that_hangs_is_ended_by_the_database_in_time(database: str):
    from bunqueue_trio.storage.postgres import copying as database_copying
    from bunqueue_trio.storage.postgres.place import parse_place

    with database_copying.filled(parse_place(database)) as target:
        assert target._ask("SHOW idle_in_transaction_session_timeout") == [("5min",)]
    with database_copying.held(parse_place(database)) as source:
        assert source._ask("SHOW idle_in_transaction_session_timeout") == [("0",)], "it is in nobody's way"


def taken(url: str, lease_s: float = 10) -> Any:
    from bunqueue_trio.storage.postgres.place import parse_place
    from bunqueue_trio.storage.postgres.store import PostgresStore

    store = PostgresStore(parse_place(url), lease_s)
    assert store.take() is None
    return store


def ask(url: str, text: str) -> Any:
    from bunqueue_trio.storage.postgres.link import Link, Query
    from bunqueue_trio.storage.postgres.place import parse_place

    place = parse_place(url)
    with closing(Link(place.conninfo)) as link:
        return link.ask(Query(place.qualified(text)))


def test_there_and_back_is_the_same_and_a_server_there_answers_alike(full: Path, database: str, tmp_path: Path):
    there = run(full, database)
    assert (there.exit_code, there.stderr) == (0, "")
    back = run(database, tmp_path / "back.db")
    assert (back.exit_code, back.stderr) == (0, "")
    assert (
        there.stdout.splitlines()[:-1] == back.stdout.splitlines()[:-1]
    )  # the digests are of what is copied, not of how it is kept
    assert rows(full) == rows(tmp_path / "back.db")
    assert ask(database, "SELECT count(*) FROM bq.term") == [(0,)], "a copy is no term of the cluster"
    assert served(full) == trio.run(answers, taken(database))


def test_what_is_pushed_to_the_copy_goes_on_where_the_original_was(full: Path, database: str):
    assert run(full, database).exit_code == 0
    before = rows(full)
    with closing(taken(database)) as store:
        assert store.last_event_id == before["event_batch"][-1][0]
        from bunqueue_trio.engine.trails import LOG, Line

        Ledger(store).write([make_job(5000, "new")], trails=[Line(LOG, "new", 1, b"{}", False)])
        assert store.trail(LOG, "new", None, 5, newest=True).lines == [(1, b"{}")]


def test_a_database_is_copied_to_another_and_never_to_itself(full: Path, database: str, postgres: Any, tmp_path: Path):
    from bunqueue_trio.storage.postgres.place import parse_place
    from bunqueue_trio.storage.postgres.schema import migrate

    assert run(full, database).exit_code == 0
    other = postgres.new_url()
    assert "has no tables of ours yet; run `bunqueue-trio migrate` once" in run(database, other).stderr
    migrate(parse_place(other))
    assert run(database, other).exit_code == 0
    assert "is what is copied from" in run(database, database).stderr
    refused = run(full, other)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "holds something already: its table job is not empty" in refused.stderr
    assert run(other, tmp_path / "back.db").exit_code == 0
    assert rows(full) == rows(tmp_path / "back.db")


def test_no_server_leads_at_either_end(full: Path, database: str, tmp_path: Path):
    with closing(taken(database)):
        for refused in (run(database, tmp_path / "new.db"), run(full, database)):
            assert refused.exit_code == 1
            assert "a server leads there (" in refused.stderr
    ask(database, "UPDATE bq.leader SET holder = 'host process 7', beat = clock_timestamp(), lease = '1 h'")
    for refused in (run(database, tmp_path / "new.db"), run(full, database)):
        assert "a server leads there (host process 7): end all that serve it" in refused.stderr
    ask(database, "UPDATE bq.leader SET beat = '-infinity'")
    leads: list[str | None] = []

    def look(done: int, total: int) -> None:
        from bunqueue_trio.storage.postgres.place import parse_place
        from bunqueue_trio.storage.postgres.store import PostgresStore

        if not leads:
            with closing(PostgresStore(parse_place(database))) as store:
                leads.append(store.take())

    copy(*of(full, database), look)
    assert leads[0] is not None  # and now it is free at once
    taken(database).close()


def of(source: Path | str, target: Path | str) -> Any:
    """The two, to be entered."""
    from bunqueue_trio.storage.postgres import copying as database_copying
    from bunqueue_trio.storage.postgres.place import parse_place

    return (
        held(source) if isinstance(source, Path) else database_copying.held(parse_place(source)),
        made(target) if isinstance(target, Path) else database_copying.filled(parse_place(target)),
    )


@pytest.mark.parametrize("what", ["target", "source"])
def test_a_copy_is_given_up_when_a_server_has_taken_over(full: Path, database: str, tmp_path: Path, what: str):
    if what == "source":
        assert run(full, database).exit_code == 0

    def take(done: int, total: int) -> None:
        ask(database, "UPDATE bq.leader SET term = term + 1, life = gen_random_uuid(), holder = 'other'")
        until_lost.wait(10)

    until_lost = threading.Event()
    lost = pytest.MonkeyPatch()
    from bunqueue_trio.storage.postgres import copying as database_copying

    lost.setattr(database_copying, "COPY_LEASE_S", 0.5)
    beat = database_copying.Lead._beat

    def noted(self: Any) -> None:
        beat(self)
        until_lost.set()

    lost.setattr(database_copying.Lead, "_beat", noted)
    try:
        with pytest.raises(StoreError, match="a server may lead there again: end all that serve it, and begin anew"):
            copy(*(of(full, database) if what == "target" else of(database, tmp_path / "new.db")), take)
    finally:
        lost.undo()
    assert not (tmp_path / "new.db").exists()
    assert ask(database, "SELECT count(*) FROM bq.job") == [(0 if what == "target" else len(rows(full)["job"]),)]


def test_a_server_that_takes_over_at_the_last_moment_is_noticed_by_the_commit(
    full: Path, database: str, monkeypatch: pytest.MonkeyPatch
):
    from bunqueue_trio.storage.postgres import copying as database_copying

    finish = database_copying.DatabaseTarget.finish

    def late(self: Any) -> None:
        ask(database, "UPDATE bq.leader SET term = term + 1, life = gen_random_uuid(), holder = 'other'")
        finish(self)

    monkeypatch.setattr(database_copying.DatabaseTarget, "finish", late)
    assert "a server may lead there again" in run(full, database).stderr
    assert ask(database, "SELECT count(*) FROM bq.job") == [(0,)]


def test_a_database_that_hiccups_is_still_led(full: Path, database: str, monkeypatch: pytest.MonkeyPatch):
    from bunqueue_trio.storage.postgres import copying as database_copying
    from bunqueue_trio.storage.postgres.store import PostgresStore

    monkeypatch.setattr(database_copying, "BEATS_A_LEASE", 600)
    beat, beaten = PostgresStore.beat_now, threading.Semaphore(0)

    def hiccup(self: Any) -> None:
        beaten.release()
        if not hiccups:
            hiccups.append(1)
            raise StoreError("gone")
        beat(self)

    hiccups: list[int] = []
    monkeypatch.setattr(PostgresStore, "beat_now", hiccup)
    waited: list[bool] = []

    def wait(done: int, total: int) -> None:
        if not waited:
            waited.extend(beaten.acquire(timeout=20) for _ in range(2))

    copy(*of(full, database), wait)
    assert waited == [True, True]
    assert ask(database, "SELECT count(*) FROM bq.job") == [(len(rows(full)["job"]),)]


def test_what_the_database_refuses_is_told_with_its_name_and_nothing_is_there(
    full: Path, database: str, monkeypatch: pytest.MonkeyPatch
):
    from bunqueue_trio.storage.postgres import copying as database_copying

    monkeypatch.setitem(database_copying._IN, database_copying.names, str)  # a NUL, which PostgreSQL does not take
    refused = run(full, database)
    assert refused.exit_code == 1
    assert "postgres://" in refused.stderr
    assert ask(database, "SELECT count(*) FROM bq.finished") == [(0,)]
    monkeypatch.undo()
    monkeypatch.setattr(database_copying, "_IDS", "SELECT nothing")
    assert "postgres://" in run(full, database).stderr
    ask(database, "ALTER TABLE bq.meta RENAME TO other")
    try:
        assert "postgres://" in run(full, database).stderr
    finally:
        ask(database, "ALTER TABLE bq.other RENAME TO meta")
    assert "postgres://" in run(full, "postgres://bq@localhost:1/none").stderr
    assert run(full, "postgres://bq@localhost/none?schema=No").exit_code == 2


_KILLED = """
import os, signal, sys
from contextlib import ExitStack
from pathlib import Path
from tests.storage.test_copying import of
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
