"""What the SQLite store does when the disk refuses, and when it syncs; real files, real errors."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from bunqueue_trio.errors import StoreError
from bunqueue_trio.storage.rows import JobRow
from bunqueue_trio.storage.sqlite import SqliteStore
from bunqueue_trio.storage.store import Batch
from tests.storage.ledger import NOW, Ledger, ended, event, keep, kept, loaded, make_job
from tests.storage.storage_disk import Disk, refuse, registered

PAYLOAD = b'"' + b"x" * 20_000 + b'"'


@pytest.fixture
def disk() -> Iterator[Disk]:
    with registered() as disk:
        yield disk


@pytest.fixture
def store(disk: Disk, tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "queue.db")
    yield store
    disk.rule = None
    store.close()


@pytest.fixture
def ledger(store: SqliteStore) -> Ledger:
    return Ledger(store)


def of_every_kind(ledger: Ledger) -> Batch:
    """A batch that writes to every table, made after one that prepares it."""
    old, changing = make_job(1), make_job(2)
    ledger.write([old, changing, ended(make_job(3, "mine"))])
    changing.attempts = 5
    fresh = make_job(4, "mine", data=PAYLOAD)
    return ledger.batch([fresh], [changing, ended(old)], events=[event(fresh)], reused=["mine"])


def test_only_durable_batches_are_synced(disk: Disk, ledger: Ledger):
    ledger.write([make_job(1)])
    disk.syncs()
    ledger.write([make_job(2)])
    assert disk.syncs() == []
    ledger.write([make_job(3)], durable=True)
    assert disk.syncs() == ["log"]
    ledger.write([make_job(4)], durable=True)
    assert disk.syncs() == ["log"]
    ledger.write([make_job(5)])
    assert disk.syncs() == []


def test_the_first_batch_of_a_new_file_is_synced_when_it_is_durable(disk: Disk, ledger: Ledger):
    disk.syncs()
    ledger.write([make_job(1)], durable=True)
    assert "log" in disk.syncs()


def test_a_checkpoint_syncs_the_log_before_the_file(disk: Disk, store: SqliteStore, ledger: Ledger):
    ledger.write([make_job(1)])
    disk.syncs()
    store.checkpoint(restart=False)
    assert disk.syncs() == ["log", "file"]


@pytest.mark.parametrize("after", range(0, 12, 2))
def test_a_disk_that_fills_up_in_the_middle_of_a_batch_leaves_nothing_of_it(
    disk: Disk, store: SqliteStore, ledger: Ledger, after: int
):
    batch = of_every_kind(ledger)
    before = (loaded(store), store.finished_counts, store.last_event_id, kept(store, ["mine", "job-1"]))
    disk.rule = refuse("write", "log", apsw.FullError, after)
    with pytest.raises(StoreError):
        store.commit(batch)
    assert (loaded(store), store.finished_counts, store.last_event_id, kept(store, ["mine", "job-1"])) == before
    disk.rule = None
    store.commit(batch)
    assert sorted(loaded(store)) == ["job-2", "mine"]
    assert loaded(store)["job-2"]["attempts"] == 5
    assert dict(store.finished_counts) == {("q", "completed"): 1}
    assert len(store.events_after(0, 10)) == store.last_event_id == 1


def test_a_commit_whose_sync_fails_is_not_there_and_its_retry_writes_nothing_twice(
    disk: Disk, store: SqliteStore, ledger: Ledger, tmp_path: Path
):
    """So a commit needs no protection against itself: see the head of ``sqlite.py``."""
    batch = of_every_kind(ledger)
    batch.durable = True
    disk.rule = refuse("sync", "log", apsw.IOError)
    for _ in range(3):
        with pytest.raises(StoreError):
            store.commit(batch)
        assert sorted(loaded(store)) == ["job-1", "job-2"]
        assert store.last_event_id == 0
        assert store.events_after(0, 10) == []
    disk.rule = None
    ghost = tmp_path / "ghost"
    ghost.mkdir()
    for name in ("queue.db", "queue.db-wal"):  # as a process that ends here leaves them
        shutil.copy(tmp_path / name, ghost / name)
    store.commit(batch)
    assert sorted(loaded(store)) == ["job-2", "mine"]
    disk.leave()
    after_crash = SqliteStore(ghost / "queue.db")
    try:
        assert sorted(loaded(after_crash)) == ["job-2", "mine"]  # whole: the transaction had reached the log
        assert after_crash.last_event_id == 1
        assert after_crash.finished_counts == store.finished_counts
    finally:
        after_crash.close()


def test_a_failed_rollback_after_an_error_of_ours_leaves_no_transaction_open(store: SqliteStore, ledger: Ledger):
    ledger.write([make_job(1)])
    with pytest.raises(AssertionError, match="contradicts the engine"):
        ledger.write([make_job(2), make_job(1, "again")], events=[event(make_job(2))])
    assert list(loaded(store)) == ["job-1"]
    assert store.last_event_id == 0
    ledger.write([make_job(2)])
    assert list(loaded(store)) == ["job-1", "job-2"]


def test_a_value_that_no_row_can_hold_leaves_nothing_behind(store: SqliteStore, ledger: Ledger):
    with pytest.raises(OverflowError):
        ledger.write([make_job(1), make_job(2, created_at=2**64)])
    assert loaded(store) == {}
    ledger.write([make_job(1)])


def test_a_read_that_fails_is_reported_as_such(disk: Disk, store: SqliteStore, ledger: Ledger):
    ledger.completed(1)
    store.close()
    for read in (lambda: store.find("x"), lambda: store.events_after(0, 1), store.first_event_id):
        with pytest.raises(AssertionError):  # the store is closed: that is no fault of the disk
            read()


def test_somebody_elses_write_lock_is_the_disk_refusing(
    store: SqliteStore, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bunqueue_trio.storage.sqlite.store._BUSY_MS", 1)
    other = apsw.Connection(str(store.path))
    other.execute("BEGIN IMMEDIATE")
    batch = ledger.batch([make_job(1)])
    with pytest.raises(StoreError, match="locked"):
        store.commit(batch)
    with pytest.raises(StoreError, match="locked"):
        ledger.completed(0)
    other.execute("ROLLBACK")
    other.close()
    store.commit(batch)
    assert list(loaded(store)) == ["job-1"]


def test_a_refused_prune_deletes_nothing_and_goes_on_with_the_oldest(disk: Disk, store: SqliteStore, ledger: Ledger):
    ids = ledger.completed(5)
    counts = store.finished_counts
    disk.rule = refuse("write", "log", apsw.FullError)
    with pytest.raises(StoreError):
        store.prune(keep(completed=3))
    assert kept(store, ids) == ids
    assert store.finished_counts == counts
    disk.rule = None
    assert store.prune(keep(completed=3)) == 2
    assert kept(store, ids) == ids[2:]


def test_a_refused_prune_of_events_deletes_none(disk: Disk, store: SqliteStore, ledger: Ledger):
    for i in range(3):
        ledger.tell(1, at=NOW + i)
    disk.rule = refuse("write", "log", apsw.FullError)
    with pytest.raises(StoreError):
        store.prune(keep(events=1))
    assert store.first_event_id() == 1


def test_a_full_file_refuses_until_there_is_room(tmp_path: Path):
    """SQLite's own limit of a file's size: a real SQLITE_FULL, on any machine."""
    store = SqliteStore(tmp_path / "queue.db")
    ledger = Ledger(store)
    ledger.write([make_job(1)])
    store._writer.execute("PRAGMA max_page_count=20").fetchall()
    batch = ledger.batch([make_job(2, data=PAYLOAD * 10)])
    for _ in range(2):
        with pytest.raises(StoreError, match="full"):
            store.commit(batch)
        assert list(loaded(store)) == ["job-1"]
    store._writer.execute("PRAGMA max_page_count=1000").fetchall()
    store.commit(batch)
    store.close()
    again = SqliteStore(tmp_path / "queue.db")
    assert list(loaded(again)) == ["job-1", "job-2"]
    again.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 1 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small file system needs more rights than this test run has")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_refuses_until_there_is_room_and_loses_nothing(small_disk: Path):
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 700_000)
    store = SqliteStore(small_disk / "queue.db")
    ledger = Ledger(store)
    done: list[str] = []
    batch = ledger.batch([make_job(1, data=PAYLOAD)])
    with pytest.raises(StoreError, match="full"):  # noqa: PT012 - whichever batch it is that finds it full
        for seq in range(1, 100):
            batch = ledger.batch([make_job(seq, data=PAYLOAD)], durable=seq % 2 == 0)
            store.commit(batch)
            done.append(f"job-{seq}")
    assert len(done) >= 2
    with pytest.raises(StoreError, match="full"):
        store.commit(batch)
    assert list(loaded(store)) == done
    with pytest.raises(StoreError):
        store.checkpoint(restart=True)  # no room for the file either; nothing is lost by it
    ballast.unlink()
    store.commit(batch)
    done.append(JobRow._make(batch.new[0]).id)
    assert list(loaded(store)) == done
    store.checkpoint(restart=True)
    store.close()
    again = SqliteStore(small_disk / "queue.db")
    assert list(loaded(again)) == done
    again.close()


def test_a_store_on_a_disk_that_is_full_does_not_start_and_can_start_later(small_disk: Path):
    ballast = small_disk / "ballast"
    with ballast.open("wb") as file:
        try:
            while True:
                os.write(file.fileno(), b"x" * 4096)
        except OSError:
            pass
    with pytest.raises(
        StoreError, match=r"cannot be opened as a store: .*; there is no room left on its disk"
    ) as failure:
        SqliteStore(small_disk / "queue.db")
    assert "\n" not in str(failure.value)
    ballast.unlink()
    SqliteStore(small_disk / "queue.db").close()
