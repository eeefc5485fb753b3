"""A file that is moved, deleted or replaced while a store has it: nothing is written, and nothing that was committed is lost."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from bunqueue_trio.errors import StartupError, StoreGone
from bunqueue_trio.storage.sqlite import SqliteStore
from bunqueue_trio.storage.sqlite.inspect import copy, examine
from bunqueue_trio.storage.sqlite.restore import restore
from bunqueue_trio.storage.sqlite.shrink import shrink
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


@pytest.mark.parametrize("end", ["close", "put back", "put back before a start", "kill"])
def test_the_log_of_a_file_that_was_replaced_gets_into_no_other(
    store: SqliteStore, ledger: Ledger, path: Path, end: str
):
    ledger.write([make_job(1)])
    store.checkpoint(restart=True)
    other = another(path)
    ledger.write([make_job(2)])
    away = path.rename(f"{path}.moved")
    other.rename(path)
    with pytest.raises(StoreGone, match=rf"its log is {path}-wal\.\d+-\d+$"):
        store.space()
    kept = next(path.parent.glob("queue.db-wal.*"))
    with killed(store) if end == "kill" else nullcontext():
        if end == "put back":
            away.replace(path)
            store.space()
            ledger.write([make_job(3)])
        if end != "kill":
            store.close()
        if end != "put back":
            for use in USES.values():
                with pytest.raises(
                    StartupError, match=rf"beside it is {kept.name}, the log of a file that was replaced"
                ):
                    use(path)
        if end == "put back before a start":
            away.replace(path)
        if end in ("close", "kill"):
            kept.rename(path.with_name("elsewhere"))
        again = SqliteStore(path)
        found = {"put back": ["job-1", "job-2", "job-3"], "put back before a start": ["job-1", "job-2"]}
        assert sorted(loaded(again)) == found.get(end, ["job-7"])
        again.close()


@pytest.mark.parametrize("how", ["copied", "touched", "beside another log"])
def test_a_log_that_was_put_aside_is_passed_over_by_nobody(store: SqliteStore, ledger: Ledger, path: Path, how: str):
    """Its file is back, and nothing says that it is that."""
    ledger.write([make_job(1)])
    store.checkpoint(restart=True)
    other = another(path)
    ledger.write([make_job(2)])
    away = path.rename(f"{path}.moved")
    other.rename(path)
    with pytest.raises(StoreGone):
        store.space()
    store.close()
    match how:
        case "copied":
            shutil.copyfile(away, path)
        case "touched":
            away.replace(path)
            os.utime(path, (1, 1))
        case _:
            away.replace(path)
            Path(f"{path}-wal").write_bytes(b"of another file")
    kept = next(path.parent.glob("queue.db-wal.*"))
    for use in USES.values():
        with pytest.raises(
            StartupError,
            match=r"If this is that file, or a copy of it made since, call the log queue\.db-wal( \(which is there|;)",
        ):
            use(path)
    kept.replace(f"{path}-wal")
    again = SqliteStore(path)
    assert sorted(loaded(again)) == ["job-1", "job-2"]
    again.close()


def test_the_log_of_a_killed_server_gets_into_no_other_file(store: SqliteStore, ledger: Ledger, path: Path):
    ledger.write([make_job(1)])
    store.checkpoint(restart=True)
    other = another(path)
    ledger.write([make_job(2)])
    with killed(store):
        away = path.rename(f"{path}.moved")
        other.rename(path)
        for name, use in USES.items():
            if name != "restore":
                with pytest.raises(
                    StartupError, match=r"is another file than the one that queue\.db-wal is the log of"
                ):
                    use(path)
        # What people call their own copies of it says nothing.
        Path(f"{path}-wal.old").touch()
        # A copy has another inode, too: that of its log says nothing then.
        elsewhere = path.parent / "copy"
        elsewhere.mkdir()
        for ending in ("-wal", ".lock"):
            shutil.copy(f"{path}{ending}", elsewhere / f"queue.db{ending}")
        shutil.copy(away, elsewhere / path.name)
        copied = SqliteStore(elsewhere / path.name)
        assert sorted(loaded(copied)) == ["job-1", "job-2"]
        copied.close()
        away.replace(path)
        again = SqliteStore(path)
        assert sorted(loaded(again)) == ["job-1", "job-2"]
        again.close()


def another(path: Path) -> Path:
    """Make another store, with other jobs in it."""
    other = SqliteStore(path.with_name("other.db"))
    Ledger(other).write([make_job(7)])
    other.close()
    return other.path


def nothing(*_: Any) -> None:
    pass


USES: dict[str, Callable[[Path], object]] = {
    "start": SqliteStore,
    "doctor": lambda path: examine(path, nothing),
    "backup": lambda path: copy(path, path.with_name("backup.db"), nothing, overwrite=False),
    "shrink": lambda path: shrink(path, nothing),
    "restore": lambda path: restore(path.with_name("other.db"), path, nothing, overwrite=True),
}
"""Who opens the file of a server that has ended."""


@contextmanager
def killed(store: SqliteStore) -> Iterator[None]:
    """The locks of a process end with it; what it has open does no harm."""
    store._lock.release()
    yield
    store._held = None
