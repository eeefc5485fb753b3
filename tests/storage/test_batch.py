"""What a batch says of its size, by which the journal chooses where to commit it."""

import pytest

from bunqueue_trio.config import INLINE_BYTES_MAX, STORE_INLINE_ROWS_MAX
from bunqueue_trio.engine.job import Options, State
from bunqueue_trio.storage.memory import MemoryStore
from bunqueue_trio.storage.rows import ChangedRow, FinishedRow, JobRow
from bunqueue_trio.storage.sqlite import SqliteStore
from bunqueue_trio.storage.store import EVENT_ROW_BYTES, Batch, event_rows
from tests.storage.ledger import Ledger, ended, event, make_job


def batch_of_events(*sizes: int) -> Batch:
    return Batch(1, 0, False, (), events=[b"x" * size for size in sizes], last_event_id=100)


def test_rows_are_counted_over_all_tables():
    ledger = Ledger(MemoryStore())
    old = [make_job(1), make_job(2)]
    ledger.write(old)
    batch = ledger.batch([make_job(3), ended(make_job(4))], [ended(old[0]), old[1]])
    assert batch.rows() == 1 + 1 + 1 + 2  # new, changed, ended, finished


def test_bytes_are_those_of_payloads_and_results():
    ledger = Ledger(MemoryStore())
    assert ledger.batch().bytes() == 0
    job = make_job(1, data=b"x" * 1000)
    pushed = ledger.batch([job], events=[event(job)]).bytes()
    assert 1000 < pushed < 1200
    assert ledger.batch([], [ended(job, State.FAILED)]).bytes() == 1000
    assert ledger.batch([], [ended(job, result=b"y" * 500)]).bytes() == 1500


@pytest.mark.parametrize("name", ["tags", "depends_on"])
def test_a_job_of_many_tags_or_dependencies_is_not_small(name: str):
    """A hundred of them have 10 MB, and would be written in one step of the event loop."""
    job = make_job(1, options=Options(**{name: ("t" * 1000,) * 1000}))
    batch = Ledger(MemoryStore()).batch([job])
    assert batch.data_bytes() >= 1_000_000
    assert not batch.is_small()
    assert Ledger(MemoryStore()).batch([make_job(2, options=Options(max_attempts=5))]).is_small()


def test_what_is_made_in_the_event_loop_for_a_database_is_few_rows_and_few_bytes():
    def brief(n: int, size: int) -> bool:
        return Ledger(MemoryStore()).batch([make_job(i, data=b"x" * size) for i in range(1, n + 1)]).is_brief()

    assert brief(STORE_INLINE_ROWS_MAX, 1)
    assert not brief(STORE_INLINE_ROWS_MAX + 1, 1)
    assert brief(1, INLINE_BYTES_MAX)
    assert not brief(1, INLINE_BYTES_MAX + 1)
    batch = batch_of_events(INLINE_BYTES_MAX + 1)
    assert not batch.is_brief()


@pytest.mark.parametrize(
    ("sizes", "rows"),
    [
        ((), []),
        ((1, 2, 3), [(100, 3)]),
        ((EVENT_ROW_BYTES,), [(100, 1)]),
        ((EVENT_ROW_BYTES, 1, 1), [(99, 2), (100, 1)]),
        ((EVENT_ROW_BYTES + 1, EVENT_ROW_BYTES + 1), [(99, 1), (100, 1)]),
        ((1, EVENT_ROW_BYTES, EVENT_ROW_BYTES, 1), [(98, 2), (100, 2)]),
    ],
)
def test_a_row_of_events_ends_where_it_is_large_enough(sizes: tuple[int, ...], rows: list[tuple[int, int]]):
    batch = batch_of_events(*sizes)
    assert [(last_id, len(events)) for last_id, events in event_rows(batch)] == rows
    assert [body for _, events in event_rows(batch) for body in events] == batch.events


def test_the_columns_of_a_row_are_those_of_the_schema(tmp_path):
    store = SqliteStore(tmp_path / "queue.db")
    columns = {
        table: [row[1] for row in store._writer.execute(f"PRAGMA table_info({table})")] for table in ("job", "finished")
    }
    store.close()
    assert columns == {"job": [*JobRow._fields], "finished": ["fin", *FinishedRow._fields]}
    assert set(ChangedRow._fields) < set(JobRow._fields)
