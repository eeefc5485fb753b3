"""The write-ahead log: what is said of its size, and how it is moved into the file."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import apsw
import pytest

from bunqueue_trio.errors import StoreError
from bunqueue_trio.storage.sqlite import SqliteStore
from bunqueue_trio.storage.sqlite import log as log_module
from tests.patience import PATIENCE_S
from tests.storage.ledger import Ledger, loaded, make_job
from tests.storage.storage_disk import registered

PAYLOAD = b'"' + b"x" * 50_000 + b'"'


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "queue.db")
    yield store
    store.close()


@pytest.fixture
def ledger(store: SqliteStore) -> Ledger:
    return Ledger(store)


@pytest.fixture
def log(store: SqliteStore) -> Path:
    return Path(f"{store.path}-wal")


def test_the_log_grows_with_what_is_written(store: SqliteStore, ledger: Ledger, log: Path):
    assert store.log_bytes() < 100_000
    ledger.write([make_job(1, data=PAYLOAD)])
    first = store.log_bytes()
    ledger.write([make_job(2, data=PAYLOAD)])
    assert 50_000 < first < store.log_bytes() - 50_000
    assert store.log_bytes() <= log.stat().st_size


def test_a_checkpoint_moves_the_log_and_the_next_commit_begins_it_anew(store: SqliteStore, ledger: Ledger, log: Path):
    ledger.write([make_job(1, data=PAYLOAD)])
    size = log.stat().st_size
    store.checkpoint(restart=False)
    assert store.log_bytes() == 0
    ledger.write([make_job(2)])
    assert 0 < store.log_bytes() < 50_000
    assert log.stat().st_size == size
    assert len(loaded(store)) == 2


def test_two_that_move_the_log_take_turns(store: SqliteStore, ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    """One alone may: the other would be refused, and whoever reads the server's log of that."""
    ledger.write([make_job(1, data=PAYLOAD)])
    began, may_end = threading.Event(), threading.Event()
    inside: list[int] = []
    move = log_module._move

    def watched(connection: apsw.Connection, mode: int) -> tuple[int, int]:
        inside.append(mode)
        began.set()
        assert may_end.wait(60)
        return move(connection, mode)

    monkeypatch.setattr(log_module, "_move", watched)
    threads = [threading.Thread(target=partial(store.checkpoint, restart=False)) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert began.wait(60)
    assert store._log._turn.locked()
    assert len(inside) == 1
    may_end.set()
    for thread in threads:
        thread.join()
    assert len(inside) == 2
    assert store.log_bytes() == 0


def test_a_restarting_checkpoint_empties_the_log(store: SqliteStore, ledger: Ledger, log: Path):
    ledger.write([make_job(1, data=PAYLOAD)])
    store.checkpoint(restart=True)
    assert (store.log_bytes(), log.stat().st_size) == (0, 0)
    ledger.write([make_job(2)])
    assert len(loaded(store)) == 2


def test_a_log_that_commits_kept_from_beginning_anew_is_not_called_short(tmp_path: Path):
    """It is of commits during checkpoints that a log grows without end, and is then to be restarted."""
    with registered() as disk:
        store = SqliteStore(tmp_path / "queue.db")
        ledger = Ledger(store)
        ledger.write([make_job(1, data=PAYLOAD)])
        before = store.log_bytes()

        def commit_meanwhile(action: str, kind: str) -> None:
            if (action, kind) == ("sync", "file"):
                disk.rule = None
                ledger.write([make_job(2)])

        disk.rule = commit_meanwhile
        store.checkpoint(restart=False)
        assert store.log_bytes() > before  # all but one commit is in the file, and none of the log is free
        ledger.write([make_job(3)])
        assert store.log_bytes() > before
        store.checkpoint(restart=True)
        assert store.log_bytes() == 0
        assert len(loaded(store)) == 3
        store.close()


@pytest.fixture
def reader(store: SqliteStore, ledger: Ledger) -> Iterator[apsw.Connection]:
    """Another program in the middle of reading what was there before."""
    ledger.write([make_job(1)])
    connection = apsw.Connection(str(store.path))
    connection.execute("BEGIN; SELECT * FROM job").fetchall()
    yield connection
    connection.close()


def test_a_reader_stands_in_nobodys_way(store: SqliteStore, ledger: Ledger, reader: apsw.Connection):
    ledger.write([make_job(2)], durable=True)
    store.checkpoint(restart=False)
    assert store.log_bytes() > 0
    assert len(loaded(store)) == 2
    assert reader.execute("SELECT count(*) FROM job").fetchall() == [(1,)]


def test_a_reader_keeps_the_log_from_being_emptied_and_that_is_reported(
    store: SqliteStore, ledger: Ledger, reader: apsw.Connection, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bunqueue_trio.storage.sqlite.log._CHECKPOINT_BUSY_MS", 1)
    ledger.write([make_job(2, data=PAYLOAD)])
    size = store.log_bytes()
    with pytest.raises(StoreError, match="locked"):
        store.checkpoint(restart=True)
    assert store.log_bytes() == size
    ledger.write([make_job(3)])
    reader.execute("COMMIT")
    store.checkpoint(restart=True)
    assert store.log_bytes() == 0


@pytest.fixture
def busy(store: SqliteStore, reader: apsw.Connection) -> Iterator[Callable[[], None]]:
    """Nobody else can checkpoint: as when a commit writes the header of the log. Call it to end that."""
    held, over = threading.Event(), threading.Event()

    def wait(_: int) -> bool:
        held.set()
        over.wait(PATIENCE_S)
        return False

    def hold() -> None:
        with closing(apsw.Connection(str(store.path))) as other:
            other.execute("SELECT * FROM job").fetchall()  # a connection that has read nothing moves nothing
            other.set_busy_handler(wait)
            with pytest.raises(apsw.BusyError):
                other.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def end() -> None:
        over.set()
        thread.join()

    Ledger(store).write([make_job(2, data=PAYLOAD)])  # the reader is in the way of it
    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(PATIENCE_S)
    yield end
    end()


def test_a_checkpoint_that_meets_a_commit_is_tried_again(
    store: SqliteStore, busy: Callable[[], None], reader: apsw.Connection, monkeypatch: pytest.MonkeyPatch
):
    pauses = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        busy()
        reader.execute("COMMIT")

    monkeypatch.setattr("bunqueue_trio.storage.sqlite.log.time.sleep", sleep)
    store.checkpoint(restart=False)
    assert len(pauses) == 1
    assert store.log_bytes() == 0


def test_a_checkpoint_that_is_refused_for_long_is_reported(
    store: SqliteStore, busy: Callable[[], None], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bunqueue_trio.storage.sqlite.log.time.sleep", lambda _: None)
    with pytest.raises(StoreError, match="locked"):
        store.checkpoint(restart=False)
    assert store.log_bytes() > 0


def test_our_own_reads_leave_nothing_open(store: SqliteStore, ledger: Ledger):
    """Not even half read ones: a log could not be emptied then."""
    ledger.completed(2)
    for _ in range(3):
        ledger.tell(3)
    store.find("completed-1")
    store.events_after(0, 1)
    store.first_event_id()
    store.checkpoint(restart=True)
    assert store.log_bytes() == 0


def test_a_log_that_grew_once_gives_the_space_back(
    store: SqliteStore, ledger: Ledger, log: Path, monkeypatch: pytest.MonkeyPatch
):
    store._writer.execute("PRAGMA journal_size_limit=200000").fetchall()
    for seq in range(1, 21):
        ledger.write([make_job(seq, data=PAYLOAD)])
    assert log.stat().st_size > 1_000_000
    store.checkpoint(restart=False)
    ledger.write([make_job(100)])
    assert log.stat().st_size <= 200_000
