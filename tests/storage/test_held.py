"""A file that is moved, deleted or replaced while a store has it: nothing is written, and nothing that was committed is lost."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from bunqueue_trio.errors import StartupError, StoreGone
from bunqueue_trio.storage.sqlite import SqliteStore
from tests.storage.ledger import Ledger, loaded, make_job


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path)
    yield store
    store.close()


@pytest.fixture
def ledger(store: SqliteStore) -> Ledger:
    return Ledger(store)


def moved(name: Path) -> None:
    name.rename(f"{name}.moved")


def deleted(name: Path) -> None:
    name.unlink()


def replaced(name: Path) -> None:
    moved(name)
    name.touch()


def exchanged(name: Path) -> None:
    shutil.copy(name, f"{name}.copy")
    Path(f"{name}.copy").replace(name)


LOOKS: dict[str, Callable[[SqliteStore], object]] = {
    "space": lambda store: store.space(),
    "checkpoint": lambda store: store.checkpoint(restart=False),
    "checkpoint to the end": lambda store: store.checkpoint(restart=True),
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("what", [moved, deleted, replaced, exchanged])
@pytest.mark.parametrize("ending", ["", "-wal", "-shm"])
def test_a_look_finds_that_a_file_is_gone_and_nothing_is_written_then(
    store: SqliteStore, ledger: Ledger, path: Path, ending: str, what: Callable[[Path], None], look: str
):
    ledger.write([make_job(1)])
    log, inode = Path(f"{path}-wal").stat().st_size, path.stat().st_ino
    what(Path(f"{path}{ending}"))
    with pytest.raises(StoreGone, match=f"queue.db{ending}: is not the file any more"):
        LOOKS[look](store)
    with pytest.raises(StoreGone):
        ledger.write([make_job(2)])
    if not ending:
        is_there = what in (replaced, exchanged)
        assert path.exists() is is_there
        # Beside another file it would be played into that.
        kept = next(path.parent.glob(f"queue.db-wal.{inode}-*")) if is_there else Path(f"{path}-wal")
        assert kept.stat().st_size == log
        assert Path(f"{path}-wal").exists() is not is_there


def test_what_is_put_back_is_written_to_again(store: SqliteStore, ledger: Ledger, path: Path):
    ledger.write([make_job(1)])
    away = path.rename(f"{path}.moved")
    with pytest.raises(StoreGone):
        store.space()
    away.rename(path)
    ledger.write([make_job(2)])
    store.checkpoint(restart=True)
    assert store.space().file > 0
    assert sorted(loaded(store)) == ["job-1", "job-2"]


@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize("what", [moved, deleted])
@pytest.mark.parametrize("ending", ["-wal", "-shm"])
def test_a_stop_without_the_log_saves_all_of_it(
    store: SqliteStore, ledger: Ledger, path: Path, ending: str, what: Callable[[Path], None], *, seen: bool
):
    """It is still open."""
    ledger.write([make_job(1)])
    store.checkpoint(restart=True)
    ledger.write([make_job(2)])
    what(Path(f"{path}{ending}"))
    if seen:
        with pytest.raises(StoreGone, match="or the server is stopped, which saves all"):
            store.space()
    store.close()
    again = SqliteStore(path)
    assert sorted(loaded(again)) == ["job-1", "job-2"]
    again.close()


@pytest.mark.parametrize("seen", [True, False])
def test_a_store_that_ends_without_its_file_leaves_the_log(
    store: SqliteStore, ledger: Ledger, path: Path, *, seen: bool
):
    ledger.write([make_job(1)])
    store.checkpoint(restart=True)
    ledger.write([make_job(2)])
    away = path.rename(f"{path}.moved")
    if seen:
        with pytest.raises(StoreGone):
            store.space()
    store.close()
    assert Path(f"{path}-wal").stat().st_size > 0
    # An empty file in its place would cost the log, and so would a new one.
    for prepare in (path.touch, path.unlink):
        prepare()
        with pytest.raises(StartupError, match=r"its log queue\.db-wal is: was it moved or deleted"):
            SqliteStore(path)
        assert Path(f"{path}-wal").stat().st_size > 0
    away.rename(path)
    again = SqliteStore(path)
    assert sorted(loaded(again)) == ["job-1", "job-2"]
    again.close()
    Path(f"{path}-wal").unlink(missing_ok=True)
    path.unlink()
    SqliteStore(path).close()


@pytest.mark.parametrize("end", ["close", "put back", "put back at a start", "kill"])
def test_the_log_of_a_file_that_was_replaced_gets_into_no_other(
    store: SqliteStore, ledger: Ledger, path: Path, end: str
):
    ledger.write([make_job(1)])
    store.checkpoint(restart=True)
    other = SqliteStore(path.with_name("other.db"))
    Ledger(other).write([make_job(7)])
    other.close()
    ledger.write([make_job(2)])
    away = path.rename(f"{path}.moved")
    other.path.rename(path)
    with pytest.raises(StoreGone, match=rf"its log is {path}-wal\.\d+-\d+$"):
        store.space()
    if end == "put back at a start":
        store.close()
        SqliteStore(path).close()
        away.replace(path)
    if end == "close":
        store.close()
    if end == "put back":
        away.replace(path)
        store.space()
        ledger.write([make_job(3)])
        store.close()
    with killed(store) if end == "kill" else nullcontext():
        again = SqliteStore(path)
        found = {"put back": ["job-1", "job-2", "job-3"], "put back at a start": ["job-1", "job-2"]}
        assert sorted(loaded(again)) == found.get(end, ["job-7"])
        again.close()


@contextmanager
def killed(store: SqliteStore) -> Iterator[None]:
    """The locks of a process end with it; what it has open does no harm."""
    store._lock.release()
    yield
    store._held = None
