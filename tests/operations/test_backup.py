"""Copies of a store: whole, of one moment, and never in the way of what is there."""

import errno
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import apsw
import pytest
from msgspec import Raw

from bunqueue_trio.errors import StartupError, StoreError
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.storage.sqlite import inspect
from bunqueue_trio.storage.sqlite.copying import made
from bunqueue_trio.storage.sqlite.inspect import copy, examine
from bunqueue_trio.storage.sqlite.restore import restore
from bunqueue_trio.storage.sqlite.shrink import shrink
from tests.operations.processes import bunqueue, serving
from tests.operations.stores import Writer, ignore, spoil


def test_a_copy_is_a_store_with_the_same_jobs_and_no_log_beside_it(file: Path, tmp_path: Path):
    target = tmp_path / "copy.db"
    told: list[tuple[int, int]] = []
    size = copy(file, target, lambda done, total: told.append((done, total)), overwrite=False)
    assert size == target.stat().st_size
    assert told[-1][0] == told[-1][1] > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.db", "q.db", "q.db.lock"]
    original, copied = (examine(path, lambda _: None)._replace(size=0) for path in (file, target))
    assert copied == original
    store = Writer(target)
    assert store.push() != ""
    store.store.close()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_a_copy_has_the_mode_of_its_original_and_is_private_until_then(file: Path, tmp_path: Path, mode: int):
    file.chmod(mode)
    meanwhile: set[int] = set()
    target = tmp_path / "copy.db"
    copy(file, target, lambda *_: meanwhile.add((tmp_path / "copy.db.partial").stat().st_mode & 0o777), overwrite=False)
    assert meanwhile == {0o600}
    assert target.stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("served", [False, True])
def test_a_copy_leaves_out_what_is_free_where_that_is_much(file: Path, tmp_path: Path, *, served: bool):
    """Whole, private until it is complete, with the mode of its original, and able to give room back."""
    store = Writer(file)
    for n in range(40):
        store.do(c.Push(queue="big", job_id=f"big-{n}", data=Raw(b'"' + b"x" * 100_000 + b'"')))
    for n in range(1, 40):
        store.do(c.Cancel(id=f"big-{n}"))
    if not served:
        store.store.close()
    file.chmod(0o640)
    target, told, modes = tmp_path / "copy.db", [], set()

    def on_progress(done: int, total: int) -> None:
        told.append((done, total))
        modes.add((tmp_path / "copy.db.partial").stat().st_mode & 0o777)

    size = copy(file, target, on_progress, overwrite=False)
    if served:
        store.store.close()
    # The events have the payloads still.
    assert size == target.stat().st_size < 0.6 * file.stat().st_size
    assert modes == {0o600}
    assert target.stat().st_mode & 0o777 == 0o640
    assert told[-1][0] == told[-1][1] > 0
    original, copied = (examine(path, lambda _: None)._replace(size=0, free=0) for path in (file, target))
    assert copied == original
    with closing(apsw.Connection(str(target))) as connection:
        assert connection.pragma("auto_vacuum") == 2
    reopened = Writer(target)
    assert reopened.push() != ""
    reopened.store.close()


def test_what_is_there_is_kept_unless_it_may_be_replaced(file: Path, tmp_path: Path):
    target = tmp_path / "copy.db"
    target.write_bytes(b"mine")
    with pytest.raises(StoreError, match="exists already"):
        copy(file, target, ignore, overwrite=False)
    assert target.read_bytes() == b"mine"
    copy(file, target, ignore, overwrite=True)
    assert examine(target, lambda _: None).findings == []


@pytest.mark.parametrize("loose", [False, True], ids=["page by page", "without what is free"])
def test_a_failed_copy_leaves_what_was_there_and_nothing_else(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, loose: bool
):
    if loose:
        spoil(file, "CREATE TABLE peak (x)", "INSERT INTO peak VALUES (zeroblob(1000000))", "DROP TABLE peak")
    target = tmp_path / "copy.db"
    target.write_bytes(b"mine")

    def fail(done: int, total: int) -> None:
        raise apsw.FullError("database or disk is full")

    with pytest.raises(StoreError, match=r"copy\.db\.partial: cannot be written: database or disk is full"):
        copy(file, target, fail, overwrite=True)

    def refuse(directory: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    assert target.read_bytes() == b"mine"
    assert not list(tmp_path.glob("*partial*"))
    monkeypatch.setattr(inspect, "sync_directory", refuse)
    with pytest.raises(StoreError, match=r"copy\.db: cannot be written: Operation not permitted"):
        copy(file, target, ignore, overwrite=True)


def begin_file(_: Path, path: Path) -> None:
    with made(path):
        pass


WRITES: dict[str, Callable[[Path, Path], object]] = {
    "backup": lambda file, other: copy(file, other, ignore, overwrite=False),
    "restore": lambda file, other: restore(file, other, ignore, overwrite=False),
    "shrink": lambda file, _: shrink(file, ignore),
    "copy": begin_file,
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_file_system_that_lets_nothing_be_removed_is_one_clear_error(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, Path], object]
):
    """As one that is read-only: what has gone wrong first is what is said."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(StoreError, match=r"\.db: cannot be (written|restored|shrunk): Read-only file system"):
        write(file, tmp_path / "new.db")


def test_a_copy_that_the_disk_has_spoiled_does_not_get_its_name(file: Path, tmp_path: Path):
    target, unfinished = tmp_path / "copy.db", tmp_path / "copy.db.partial"
    target.write_bytes(b"mine")

    def overwrite_its_beginning(done: int, total: int) -> None:
        if done == total:
            with unfinished.open("r+b") as copied:
                copied.write(bytes(100))

    with pytest.raises(StoreError, match=r"copy\.db\.partial: cannot be written: file is not a database"):
        copy(file, target, overwrite_its_beginning, overwrite=True)
    assert target.read_bytes() == b"mine"
    assert not list(tmp_path.glob("*partial*"))


def test_a_damaged_original_is_not_passed_on(tmp_path: Path):
    path = tmp_path / "q.db"
    writer = Writer(path)
    for _ in range(300):
        writer.push()
    writer.store.close()
    content = bytearray(path.read_bytes())
    content[6 * 4096 : 8 * 4096] = b"\xff" * 8192
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"q\.db: is damaged, or its copy was not written well: "):
        copy(path, tmp_path / "copy.db", ignore, overwrite=False)
    assert not (tmp_path / "copy.db").exists()


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        ("no/where.db", "there is no directory"),
        (".", "is a directory"),
        ("q.db", "is the file itself"),
        ("q.db-wal", "lies beside a store"),
        ("q.db.lock", "lies beside a store"),
    ],
)
def test_impossible_targets_are_refused(file: Path, tmp_path: Path, target: str, complaint: str):
    with pytest.raises(StoreError, match=complaint):
        copy(file, tmp_path / target, ignore, overwrite=True)
    assert examine(file, lambda _: None).findings == []


def test_a_target_in_use_is_refused(file: Path, tmp_path: Path):
    used = Writer(tmp_path / "used.db")
    with pytest.raises(StoreError, match=r"is in use, or was not closed: .*used\.db-wal lies beside it"):
        copy(file, tmp_path / "used.db", ignore, overwrite=True)
    used.store.close()


def test_a_link_is_the_file_it_leads_to_with_all_that_is_in_its_log(tmp_path: Path):
    used = Writer(tmp_path / "used.db")
    used.push(job_id="in the log")
    link = tmp_path / "elsewhere" / "link.db"
    link.parent.mkdir()
    link.symlink_to(used.store.path)
    assert examine(link, lambda _: None).unfinished == {"waiting": 1}
    copy(link, tmp_path / "copy.db", ignore, overwrite=False)
    assert examine(tmp_path / "copy.db", lambda _: None).unfinished == {"waiting": 1}
    used.store.close()


def test_by_a_hard_link_the_log_would_not_be_found(tmp_path: Path):
    used = Writer(tmp_path / "used.db")
    used.push(job_id="in the log")
    hard = tmp_path / "elsewhere.db"
    hard.hardlink_to(used.store.path)
    with pytest.raises(StoreError, match="has a second name"):
        copy(hard, tmp_path / "copy.db", ignore, overwrite=False)
    hard.unlink()
    copy(used.store.path, tmp_path / "copy.db", ignore, overwrite=False)
    used.store.close()
    (tmp_path / "second.db").hardlink_to(tmp_path / "copy.db")  # a copy has no log
    assert examine(tmp_path / "second.db", lambda _: None).unfinished == {"waiting": 1}


def test_what_holds_nothing_is_no_copy_to_put_back(file: Path, tmp_path: Path):
    apsw.Connection(str(tmp_path / "empty.db")).execute("PRAGMA user_version=0; VACUUM").fetchall()
    assert (tmp_path / "empty.db").stat().st_size
    with pytest.raises(StoreError, match="holds nothing"):
        copy(tmp_path / "empty.db", file, ignore, overwrite=True)
    assert examine(file, lambda _: None).findings == []


def test_another_programs_database_is_not_copied(tmp_path: Path):
    spoil(tmp_path / "other.db", "CREATE TABLE t (x)")
    with pytest.raises(StartupError, match="another program's database"):
        copy(tmp_path / "other.db", tmp_path / "copy.db", ignore, overwrite=False)


def test_a_copy_beside_commits_shows_one_moment_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """SQLite begins a copy anew when the original changes, unless it holds a snapshot: this one must not."""
    monkeypatch.setattr(inspect, "_STEP_PAGES", 1)
    path, target = tmp_path / "q.db", tmp_path / "copy.db"
    writer = Writer(path)
    for _ in range(500):
        writer.push()
    steps = 0

    def commit_another(done: int, total: int) -> None:
        nonlocal steps
        steps += 1
        assert steps <= total, "begun anew"
        writer.push()

    copy(path, target, commit_another, overwrite=False)
    assert steps > 20
    assert examine(target, lambda _: None).unfinished == {"waiting": 500}
    writer.store.close()


@pytest.mark.slow
def test_backup_beside_a_busy_server_keeps_what_was_answered_before(tmp_path: Path):
    with serving(tmp_path) as running, running.client() as client:
        before = client.post("/queues/q/jobs/bulk", json={"jobs": [{"data": n} for n in range(2000)]}).json()["ids"]
        over = threading.Event()

        def push() -> None:
            with running.client() as other:
                while not over.is_set():
                    other.post("/queues/q/jobs", json={"data": "later"}).raise_for_status()

        pusher = threading.Thread(target=push)
        pusher.start()
        done = bunqueue("backup", str(running.data_path), str(tmp_path / "copy.db"))
        over.set()
        pusher.join()
        assert (done.code, done.err) == (0, "")
        again = bunqueue("backup", str(running.data_path), str(tmp_path / "copy.db"))
        assert (again.code, again.err) == (
            1,
            f"bunqueue-trio: {tmp_path / 'copy.db'}: exists already; --force replaces it\n",
        )
        assert bunqueue("backup", "--force", str(running.data_path), str(tmp_path / "copy.db")).code == 0
        other = tmp_path / "other.db"
        spoil(other, "CREATE TABLE t (x)")
        assert bunqueue("backup", str(other), str(tmp_path / "x.db")).code == 1
    with serving(tmp_path, env={"DATA_PATH": str(tmp_path / "copy.db")}) as restored, restored.client() as client:
        assert all(client.get(f"/jobs/{job}").status_code == 200 for job in before[::100])
        assert client.get("/health").json()["queues"]["waiting"] >= 2000
