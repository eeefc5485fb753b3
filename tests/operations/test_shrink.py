"""Shrinking a file: what is in it stays, what nothing uses goes, and whatever goes wrong the file is whole."""

from pathlib import Path

import apsw
import pytest

from bunqueue_trio.errors import StartupError, StoreError
from bunqueue_trio.storage.sqlite import SqliteStore
from bunqueue_trio.storage.sqlite import shrink as shrinking
from bunqueue_trio.storage.sqlite.inspect import examine
from bunqueue_trio.storage.sqlite.opening import closing
from bunqueue_trio.storage.sqlite.shrink import shrink
from tests.operations.processes import bunqueue
from tests.operations.stores import Writer, ignore, make_store


@pytest.fixture(params=[False, True], ids=["new file", "old file"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A store with 4 MiB that nothing uses; an old one was made before files could give that back."""
    path = tmp_path / "q.db"
    make_store(path)
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("CREATE TABLE peak (x)").fetchall()
        connection.execute("INSERT INTO peak VALUES (zeroblob(4000000))").fetchall()
        connection.execute("DROP TABLE peak").fetchall()
        if request.param:
            connection.execute("PRAGMA journal_mode=DELETE").fetchall()
            connection.execute("PRAGMA auto_vacuum=NONE").fetchall()
            connection.execute("VACUUM").fetchall()
            connection.execute("CREATE TABLE peak (x)").fetchall()
            connection.execute("INSERT INTO peak VALUES (zeroblob(4000000))").fetchall()
            connection.execute("DROP TABLE peak").fetchall()
            connection.execute("PRAGMA journal_mode=WAL").fetchall()
    return path


def test_what_is_in_it_stays_and_what_nothing_uses_goes(file: Path, monkeypatch: pytest.MonkeyPatch):
    file.chmod(0o640)
    before = examine(file, lambda _: None)
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(shrinking, "_PROGRESS_STEPS", 10)
    sizes = shrink(file, lambda done, total: told.append((done, total)))
    after = examine(file, lambda _: None)
    assert before.free > 3_900_000
    assert sizes == (before.size, after.size)
    assert after == before._replace(size=after.size, free=0)
    assert after.size < 200_000
    assert file.stat().st_mode & 0o777 == 0o640
    assert told[-1][0] == told[-1][1] > 0
    assert len(told) > 1
    assert sorted(path.name for path in file.parent.iterdir()) == ["q.db", "q.db.lock"]
    writer = Writer(file)
    assert writer.push() != ""
    assert writer.store.shrinks  # from now on by itself
    writer.store.close()
    assert shrink(file, ignore)[1] <= after.size + 8192  # once more is no harm


@pytest.mark.slow
def test_a_file_that_a_server_has_is_refused(file: Path):
    store = SqliteStore(file)
    with pytest.raises(StartupError, match="is in use by a server"):
        shrink(file, ignore)
    store.close()
    done = bunqueue("shrink", str(file))
    assert done.code == 0, done.err


def test_a_file_that_somebody_reads_is_left_as_it_is(file: Path):
    before = file.read_bytes()
    with closing(apsw.Connection(str(file))) as reader:
        reader.execute("BEGIN").fetchall()
        reader.execute("SELECT count(*) FROM job").fetchall()
        with pytest.raises(StoreError, match="somebody has it open"):
            shrink(file, ignore)
    assert file.read_bytes() == before
    assert not Path(f"{file}.shrunk").exists()


def test_what_an_interrupted_run_left_is_no_hindrance_and_the_file_is_whole_until_the_last_step(
    file: Path, monkeypatch: pytest.MonkeyPatch
):
    before = examine(file, lambda _: None)

    def end(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    for name in ("q.db.shrunk", "q.db.shrunk-journal"):
        (file.parent / name).write_bytes(b"half")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", end)
        with pytest.raises(KeyboardInterrupt):
            shrink(file, ignore)
    assert examine(file, lambda _: None) == before
    shrink(file, ignore)
    assert examine(file, lambda _: None).free == 0


def test_a_disk_without_room_for_the_new_file_is_reported_before_anything_is_written(
    file: Path, monkeypatch: pytest.MonkeyPatch
):
    class Full:
        f_bavail, f_frsize = 1, 4096

    monkeypatch.setattr(shrinking.os, "statvfs", lambda path: Full)
    with pytest.raises(StoreError, match=r"needs [\d,]+ bytes for the new file beside it, and its disk has 4,096 left"):
        shrink(file, ignore)
    assert examine(file, lambda _: None).free > 0


@pytest.mark.parametrize("error", [apsw.FullError("database or disk is full"), OSError(28, "No space left on device")])
def test_a_disk_that_fills_up_meanwhile_leaves_the_file_as_it_was(
    file: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    def refuse(done: int, total: int) -> None:
        raise error

    before = examine(file, lambda _: None)
    monkeypatch.setattr(shrinking, "_PROGRESS_STEPS", 100)
    with pytest.raises(StoreError, match=f"q.db: cannot be shrunk: .*{str(error).split(']')[-1].strip()}"):
        shrink(file, refuse)
    assert examine(file, lambda _: None) == before
    assert not Path(f"{file}.shrunk").exists()


@pytest.mark.parametrize("content", [None, b""], ids=["missing", "empty"])
def test_a_file_that_is_none_is_refused_and_not_made(tmp_path: Path, content: bytes | None):
    path = tmp_path / "q.db"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StoreError, match="there is no such file"):
        shrink(path, ignore)
    assert path.exists() is (content is not None)
    assert not Path(f"{path}.lock").exists()


@pytest.mark.slow
def test_a_file_of_another_kind_is_reported_in_one_line(tmp_path: Path):
    path = tmp_path / "q.toml"
    path.write_text("http_port = 6790\n" * 100)
    done = bunqueue("shrink", str(path))
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "file is not a database" in done.err
    assert path.read_text() == "http_port = 6790\n" * 100


def test_a_damaged_file_is_not_written_anew(tmp_path: Path):
    path = tmp_path / "q.db"
    make_store(path)
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 3 + 8] = bytes(8)
    path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="is damaged: "):
        shrink(path, ignore)
    assert path.read_bytes() == before


def test_a_link_stays_one(file: Path, tmp_path: Path):
    link = tmp_path / "link.db"
    link.symlink_to(file)
    shrink(link, ignore)
    assert link.readlink() == file
    assert examine(file, lambda _: None).free == 0
