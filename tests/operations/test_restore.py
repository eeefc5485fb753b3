"""A copy in the place of a store: whole, with no log of the old one, and whatever goes wrong the old file is there."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from bunqueue_trio.cli import main
from bunqueue_trio.errors import StartupError, StoreError
from bunqueue_trio.storage.sqlite import SqliteStore
from bunqueue_trio.storage.sqlite.inspect import copy, examine
from bunqueue_trio.storage.sqlite.restore import restore
from tests.operations.stores import Writer, ignore


@pytest.fixture
def backup(file: Path, tmp_path: Path) -> Path:
    """A copy, after which a job more came."""
    target = tmp_path / "copy.db"
    copy(file, target, ignore, overwrite=False)
    later = Writer(file)
    later.push(job_id="later")
    later.store.close()
    return target


def holds(path: Path, job_id: str) -> bool:
    store = SqliteStore(path)
    found = any(job.id == job_id for job in store.load())
    store.close()
    return found


def test_the_store_is_what_the_copy_is_and_no_log_of_the_old_one_is_read(file: Path, backup: Path):
    file.chmod(0o640)
    for name in ("q.db-wal", "q.db-shm", "q.db.restored", "q.db.restored-journal"):
        (file.parent / name).write_bytes(b"old")
    assert holds(backup, "later") is False
    assert restore(backup, file, ignore, overwrite=True) == file.stat().st_size
    assert file.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in file.parent.glob("q.db*")) == ["q.db", "q.db.lock"]
    assert examine(file, lambda _: None).findings == []
    assert holds(file, "later") is False
    assert holds(backup, "later") is False


def test_where_nothing_is_it_needs_no_force(backup: Path, tmp_path: Path):
    backup.chmod(0o600)
    restore(backup, tmp_path / "new.db", ignore, overwrite=False)
    assert examine(tmp_path / "new.db", lambda _: None).findings == []


def test_what_stands_in_the_way_leaves_the_file_as_it_was(file: Path, backup: Path, tmp_path: Path):
    with pytest.raises(StoreError, match="exists already"):
        restore(backup, file, ignore, overwrite=False)
    with pytest.raises(StoreError, match="there is no directory"):
        restore(backup, tmp_path / "none" / "q.db", ignore, overwrite=False)
    with pytest.raises(StoreError, match="is the copy itself"):
        restore(file, file, ignore, overwrite=True)
    (tmp_path / "noise").write_bytes(b"x" * 5000)
    with pytest.raises((StartupError, StoreError)):
        restore(tmp_path / "noise", file, ignore, overwrite=True)
    with pytest.raises(StoreError):
        restore(tmp_path / "nothing", file, ignore, overwrite=True)
    server = SqliteStore(file)
    link = tmp_path / "link.db"
    link.symlink_to(file)
    for name in (file, link):
        with pytest.raises(StartupError, match="is in use by a server"):
            restore(backup, name, ignore, overwrite=True)
    server.close()
    assert holds(file, "later")


def test_the_old_file_is_there_until_the_last_step(file: Path, backup: Path, monkeypatch: pytest.MonkeyPatch):
    def full(self: Path, mode: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "chmod", full)
        with pytest.raises(StoreError, match=r"q\.db: cannot be restored: No space left"):
            restore(backup, file, ignore, overwrite=True)
    assert holds(file, "later")
    assert not Path(f"{file}.restored").exists()


def test_the_command_says_what_it_has_done(file: Path, backup: Path):
    done = CliRunner().invoke(main, ["restore", str(backup), str(file)])
    assert (done.exit_code, "exists already" in done.output) == (1, True)
    done = CliRunner().invoke(main, ["restore", str(backup), str(file), "--force"])
    assert (done.exit_code, done.output) == (0, f"{file}: {file.stat().st_size:,} bytes\n")
    (file.parent / "noise").write_bytes(b"x" * 5000)
    done = CliRunner().invoke(main, ["restore", str(file.parent / "noise"), str(file), "--force"])
    assert (done.exit_code, len(done.output.splitlines())) == (1, 1)


@pytest.mark.parametrize("how", ["pages", "beginning"])
def test_a_damaged_copy_is_named_as_it_was_given_and_leaves_nothing(backup: Path, tmp_path: Path, how: str):
    content = bytearray(backup.read_bytes())
    begin = 6 * 4096 if how == "pages" else 100
    content[begin : begin + 4096] = b"\xff" * 4096
    backup.write_bytes(content)
    there = tmp_path / "there"
    there.mkdir()
    with pytest.raises((StoreError, StartupError)) as refused:
        restore(backup, there / "q.db", ignore, overwrite=False)
    assert str(refused.value).startswith(f"{backup}: ")
    assert "partial" not in str(refused.value)
    assert list(there.iterdir()) == []


def test_a_refused_restore_leaves_the_lock_that_was_there(file: Path, tmp_path: Path):
    lock = Path(f"{file}.lock")
    assert lock.exists()
    with pytest.raises(StoreError):
        restore(tmp_path / "nothing", file, ignore, overwrite=True)
    assert lock.exists()
    (tmp_path / "new.db.lock").touch()
    with pytest.raises(StoreError):
        restore(tmp_path / "nothing", tmp_path / "new.db", ignore, overwrite=False)
    assert (tmp_path / "new.db.lock").exists()
