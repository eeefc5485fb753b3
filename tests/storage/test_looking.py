"""Damage in any table of a file is met by whoever reads it, or by the look that goes over all; it is noted once, and stays."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio

from bunqueue_trio.engine.job import State
from bunqueue_trio.engine.trails import Line
from bunqueue_trio.errors import StartupError, StoreDamaged, StoreGone
from bunqueue_trio.storage.memory import MemoryStore
from bunqueue_trio.storage.sqlite import SqliteStore, looking
from tests.storage.damaged import TABLES, overwrite
from tests.storage.ledger import NOW, Ledger, ended, event, keep, make_job

# Those that no start reads from end to end.
LATER = tuple(table for table in TABLES if table not in ("job", "fact"))
WIDE = b'"%s"' % (b"x" * 400)


def never() -> bool:
    return False


def make(path: Path) -> None:
    """A file in which each table has several pages."""
    store = SqliteStore(path)
    ledger = Ledger(store)
    for seq in range(1, 60):
        job = make_job(seq, f"job-{seq:04}", data=WIDE)
        ledger.write([job], events=[event(job)])
    ledger.write(
        facts=[("queue", f"q{n}", WIDE) for n in range(60)],
        trails=[Line("log", f"key-{n % 40}", NOW, b'["%s"]' % (b"y" * 300)) for n in range(200)],
    )
    ledger.write([ended(make_job(seq, data=WIDE), State.FAILED) for seq in range(1001, 1060)])
    store.checkpoint(restart=True)
    store.close()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "sound.db"
    make(path)
    return path


@pytest.fixture
def path(tmp_path: Path, sound: Path) -> Path:
    return Path(shutil.copy(sound, tmp_path / "queue.db"))


@pytest.fixture
def opened(path: Path) -> Iterator[Callable[[], SqliteStore]]:
    stores: list[SqliteStore] = []

    def open_() -> SqliteStore:
        stores.append(SqliteStore(path))
        return stores[-1]

    yield open_
    for store in stores:
        store.close()


def looked_over(store: SqliteStore) -> str | None:
    for part in store.parts():
        try:
            assert store.look_over(part, never)
        except StoreDamaged:
            assert store.damage is not None
    return store.damage


def test_all_tables_of_a_sound_file_are_looked_over(opened: Callable[[], SqliteStore]):
    store = opened()
    assert sorted(store.parts()) == sorted(TABLES)
    assert looked_over(store) is None


def test_there_is_nothing_to_look_at_where_there_is_no_file():
    store = MemoryStore()
    assert (store.damage, list(store.parts()), store.look_over("job", never)) == (None, [], True)


@pytest.mark.parametrize("table", TABLES)
def test_a_page_that_is_overwritten_under_an_open_file_is_found_in_each_table(
    opened: Callable[[], SqliteStore], path: Path, table: str
):
    store = opened()
    overwrite(path, table, 0)
    assert (looked_over(store) or "").startswith(f"table {table}: ")


@pytest.mark.parametrize("table", TABLES)
def test_a_page_that_was_overwritten_stops_the_start_or_is_found_by_the_look(path: Path, table: str):
    overwrite(path, table, -1)
    try:
        store = SqliteStore(path)
    except StartupError:
        return
    try:
        if table in LATER:
            assert (looked_over(store) or "").startswith(f"table {table}: ")
            return
        with pytest.raises(StartupError, match="is damaged: "):
            store.load() if table == "job" else store.load_facts()
    finally:
        store.close()


READS: dict[str, tuple[str, Callable[[SqliteStore], Any]]] = {
    "find": ("finished", lambda store: store.find("job-1001")),
    "records": ("finished", lambda store: store.records("q", State.FAILED, None, 10)),
    "traces": ("finished", lambda store: store.traces("a", "z", 10)),
    "sample": ("finished", lambda store: store.sample(10)),
    "events": ("event_batch", lambda store: store.events_after(0, 10)),
    "trail": ("trail_line", lambda store: store.trail("log", "key-1", None, 10, newest=True)),
    "prune": ("finished", lambda store: store.prune(keep(since=NOW + 1))),
    "audited jobs": ("job", lambda store: store.stored(0, 1000, 100)),
    "audited facts": ("fact", lambda store: store.stored_facts(("", ""), 100)),
    "audited records": ("finished_by_state", lambda store: store.stored_kept("q")),
}


@pytest.mark.parametrize("read", READS)
def test_whatever_reads_a_damaged_page_says_so_and_it_is_noted(
    opened: Callable[[], SqliteStore], path: Path, read: str
):
    table, do = READS[read]
    store = opened()
    # What the connections have in their caches is not on the disk.
    for connection in store._connections:
        connection.execute("PRAGMA cache_size=0; PRAGMA shrink_memory").fetchall()
    overwrite(path, table)
    with pytest.raises(StoreDamaged):
        do(store)
    assert store.damage == "database disk image is malformed"
    store._meaning.note("something else")
    assert store.damage == "database disk image is malformed", "what was met first"


def test_a_disk_that_refuses_is_not_damaged(opened: Callable[[], SqliteStore], path: Path):
    store = opened()
    path.rename(path.with_name("elsewhere"))
    with pytest.raises(StoreGone):
        store.space()
    # The store says so itself, and what came in its place is not looked at.
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(StoreGone):
        store.look_over("finished", never)
    assert store.damage is None
    path.with_name("elsewhere").replace(path)


def test_what_comes_in_the_place_of_the_file_during_a_look_says_nothing_of_it(
    opened: Callable[[], SqliteStore], path: Path, monkeypatch: pytest.MonkeyPatch
):
    store = opened()
    apart = store._apart

    def exchanged() -> Any:
        path.rename(path.with_name("elsewhere"))
        path.write_bytes(b"no database" * 1000)
        return apart()

    monkeypatch.setattr(store, "_apart", exchanged)
    with pytest.raises(StoreGone):
        store.look_over("finished", never)
    assert store.damage is None
    path.with_name("elsewhere").replace(path)


def test_a_look_ends_when_its_time_is_up(
    opened: Callable[[], SqliteStore], path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bunqueue_trio.storage.sqlite.looking._STEPS", 1)
    store = opened()
    asked: list[int] = []

    def third() -> bool:
        asked.append(1)
        return len(asked) >= 3

    assert store.look_over("finished", third) is False
    assert len(asked) == 3
    assert store.damage is None
    assert store.look_over("finished", never)


async def test_a_look_ends_with_its_task_and_holds_no_stop(
    opened: Callable[[], SqliteStore], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bunqueue_trio.storage.sqlite.looking._STEPS", 1)
    store = opened()
    begun = trio.Event()

    def check() -> bool:
        trio.from_thread.run_sync(begun.set)
        while True:
            trio.from_thread.check_cancelled()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, store.look_over, "finished", check)
        await begun.wait()
        nursery.cancel_scope.cancel()
    assert store.damage is None


def test_a_look_that_meets_damage_where_it_reads_says_so(
    opened: Callable[[], SqliteStore], monkeypatch: pytest.MonkeyPatch
):
    def malformed(*_: object) -> None:
        raise apsw.CorruptError("malformed")

    monkeypatch.setattr(looking, "_damage", malformed)
    with pytest.raises(StoreDamaged, match="table finished: "):
        opened().look_over("finished", never)


def test_a_look_that_finds_rows_that_do_not_fit_says_so(
    opened: Callable[[], SqliteStore], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(looking, "_damage", lambda *_: "row 3 missing from index")
    store = opened()
    with pytest.raises(StoreDamaged, match="table finished: row 3 missing from index"):
        store.look_over("finished", never)
    with pytest.raises(StoreDamaged, match="table job: row 3 missing from index"):
        store.look_over("job", never)
    assert store.damage == "table finished: row 3 missing from index", "what was met first"
