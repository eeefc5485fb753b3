"""A damaged file stops the start with one line, whatever the damage; it is never a traceback."""

import random
import re
import shutil
from pathlib import Path

import apsw
import pytest

from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.job import Lease, Note, Options, State
from bunqueue_trio.errors import StartupError, StoreDamaged, StoreError
from bunqueue_trio.storage.sqlite import SqliteStore, inspect
from tests.storage.ledger import NOW, Ledger, ended, event, loaded, make_job

PAGE = 4096
JOBS = 60
OPTIONS = Options(tags=("a", "b"), backoff=7)


def fill(store: SqliteStore, first: int = 1) -> None:
    ledger = Ledger(store)
    jobs = [make_job(seq, f"job-{seq:04}", data=b'"%s"' % (b"x" * 200)) for seq in range(first, first + JOBS)]
    for job in jobs[::3]:
        job.state, job.lease, job.options = State.ACTIVE, Lease("token", 1, NOW), OPTIONS
    for job in jobs[1::3]:
        job.state, job.note = State.WAITING_CHILDREN, Note(error="e", waiting_on={"x"})
    ledger.write(jobs, events=[event(job) for job in jobs])
    ledger.write([ended(make_job(seq), result=b"1") for seq in range(first + 10_000, first + 10_000 + JOBS)])


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a store with a few pages of everything."""
    path = tmp_path_factory.mktemp("sound") / "queue.db"
    store = SqliteStore(path)
    fill(store)
    store.checkpoint(restart=True)
    store.close()
    return path.read_bytes()


def start(path: Path) -> list[str]:
    """Open and load as a server does; return the ids, and close."""
    store = SqliteStore(path)
    try:
        engine = Engine(str, store)
        engine.load(store.load(), NOW)
        return list(engine.jobs)
    except StoreError as error:  # as the server tells it
        raise StartupError(f"{path}: is damaged: {error}") from None
    finally:
        store.close()


def line_of_a_stop(path: Path) -> str:
    """Start, and return the line that says why not; empty when all jobs were loaded."""
    try:
        assert len(start(path)) == JOBS
    except StartupError as error:
        line = str(error)
    else:
        return ""
    assert "\n" not in line
    return line


def test_the_sound_file_starts(tmp_path: Path, sound: bytes):
    (tmp_path / "queue.db").write_bytes(sound)
    assert len(start(tmp_path / "queue.db")) == JOBS
    assert len(sound) > 10 * PAGE


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_flipped_bytes_stop_the_start_with_one_line_or_hit_nothing_of_the_structure(
    tmp_path: Path, sound: bytes, seed: int
):
    """A flip inside a text or a payload is not the structure's: SQLite keeps no checksums."""
    rng = random.Random(seed)
    path = tmp_path / "queue.db"
    stopped = 0
    for _ in range(25):
        damaged = bytearray(sound)
        at = rng.randrange(len(damaged) // PAGE) * PAGE + rng.choice((rng.randrange(120), rng.randrange(PAGE)))
        for i in range(at, min(at + rng.choice((1, 1, 8, 200)), len(damaged))):
            damaged[i] ^= rng.randrange(1, 256)
        path.write_bytes(damaged)
        if line := line_of_a_stop(path):
            stopped += 1
            assert line.startswith(f"{path}: ")
            assert path.read_bytes() == damaged, f"changed by the attempt (byte {at})"
    assert stopped


@pytest.mark.parametrize("page", range(1, 12))
def test_a_page_of_zeros_stops_the_start_unless_no_job_is_in_it(tmp_path: Path, sound: bytes, page: int):
    path = tmp_path / "queue.db"
    path.write_bytes(sound[: page * PAGE] + bytes(PAGE) + sound[(page + 1) * PAGE :])
    line = line_of_a_stop(path)
    assert re.match(rf"{re.escape(str(path))}: (is damaged|cannot be opened as a store): ", line) or line == ""


def test_a_schema_that_is_damaged_is_reported_in_one_line(tmp_path: Path, sound: bytes):
    """SQLite quotes the whole of it, which has many lines."""
    path = tmp_path / "queue.db"
    path.write_bytes(sound.replace(b"CREATE TABLE job (", b"CREATE\nXABLE job (", 1))
    assert "malformed database schema" in line_of_a_stop(path)


@pytest.mark.parametrize(
    ("column", "value"),
    [("state", "'actjve'"), ("lease", "'{'"), ("lease", "'{}'"), ("note", "'[]'"), ("options", "'{\"backoff\":\"x\"}'"),
     ("lease", "CAST(x'ff' AS TEXT)"), ("queue", "'no name'"), ("state", "'a' || char(10) || 'b'")],
)  # fmt: skip
def test_a_row_that_means_nothing_stops_the_start(tmp_path: Path, sound: bytes, column: str, value: str):
    path = tmp_path / "queue.db"
    path.write_bytes(sound)
    store = SqliteStore(path)
    store._writer.execute(f"UPDATE job SET {column}={value} WHERE seq=7")
    store.close()
    with pytest.raises(StartupError, match="is damaged: "):
        start(path)


def test_rows_in_a_wrong_order_stop_the_start_although_each_can_be_read(tmp_path: Path, sound: bytes):
    """Only the look at the whole table, which goes on in a thread while they are read, can find that."""
    path = tmp_path / "queue.db"
    page = sound.find(b"job-0030q") // PAGE * PAGE
    first, second = (slice(page + at, page + at + 2) for at in (8, 10))
    swapped = bytearray(sound)
    # Of a leaf: where its first two rows begin.
    swapped[first], swapped[second] = sound[second], sound[first]
    path.write_bytes(swapped)
    with pytest.raises(StartupError, match=r"is damaged: .*out of order"):
        start(path)


def test_of_a_damaged_file_neither_the_file_nor_its_log_is_changed(tmp_path: Path):
    """The log of a killed server is moved into the file only when that is known to be sound."""
    path = tmp_path / "queue.db"
    store = SqliteStore(tmp_path / "then.db")
    fill(store)
    store.checkpoint(restart=True)
    fill(store, 1000)
    for suffix in ("", "-wal"):
        shutil.copy(f"{store.path}{suffix}", f"{path}{suffix}")
    store.close()
    log = Path(f"{path}-wal")
    damaged = bytearray(path.read_bytes())
    at = damaged.find(b'job-0030q"x') // PAGE * PAGE
    damaged[at : at + 8] = bytes(8)  # the head of a page that the log does not replace
    untouched = path.read_bytes()
    path.write_bytes(damaged)
    before = (bytes(damaged), log.read_bytes())
    with pytest.raises(StartupError, match="is damaged: "):
        start(path)
    assert (path.read_bytes(), log.read_bytes()) == before
    path.write_bytes(untouched)
    assert len(start(path)) == 2 * JOBS
    assert not log.exists()


def test_who_reads_damage_that_shows_later_hears_of_it(tmp_path: Path, sound: bytes):
    """Of finished jobs only as much is looked at as a start needs; a read that fails says so."""
    path = tmp_path / "queue.db"
    path.write_bytes(sound)
    store = SqliteStore(path)
    assert len(loaded(store)) == JOBS
    rows = store._writer.execute(
        "SELECT rootpage FROM sqlite_schema WHERE name='sqlite_autoindex_finished_1'"
    ).fetchall()
    store.close()
    root = int(rows[0][0])
    path.write_bytes(sound[: (root - 1) * PAGE] + bytes(PAGE) + sound[root * PAGE :])
    store = SqliteStore(path)
    with pytest.raises(Exception, match="malformed") as failure:
        store.find("job-10001")
    assert type(failure.value) is StoreDamaged
    store.close()


def test_what_cannot_be_copied_for_another_reason_says_where():
    error = inspect._uncopied(Path("a.db"), Path("b.db"), apsw.FullError("database or disk is full"))
    assert str(error) == "b.db: cannot be written: database or disk is full"
    damaged = inspect._uncopied(Path("a.db"), Path("b.db"), apsw.CorruptError("malformed"))
    assert str(damaged).startswith("a.db: is damaged: ")


def test_a_file_that_a_killed_server_has_left_half_written_says_how_it_heals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "q.db"
    SqliteStore(path).close()

    def unfinished(*_: object, **__: object) -> None:
        raise apsw.ReadOnlyError("attempt to write a readonly database")

    monkeypatch.setattr(inspect.apsw, "Connection", unfinished)
    with pytest.raises(StoreError, match="start a server on it once"), inspect.snapshot(path):
        pass
