"""The row of a large job keeps its length, so that what changes of the job does not write its payload again."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bunqueue_trio.engine.job import Job, Lease, Note, State
from bunqueue_trio.storage.rows import _GRAIN, _LARGE_BYTES, Reader, changed_row, new_row
from bunqueue_trio.storage.sqlite import SqliteStore
from tests.storage.ledger import NOW, Ledger, facts, loaded, make_job

LARGE = b'"' + b"x" * (20 * _LARGE_BYTES) + b'"'


def deliver(job: Job) -> None:
    job.state, job.started_at, job.lease = State.ACTIVE, NOW + 5, Lease("0193-token", 30_000, NOW + 30_000, None, None)


def fail(job: Job) -> None:
    job.state, job.lease, job.attempts, job.run_at = State.DELAYED, None, 1, NOW + 60_000
    job.noted().error = "ValueError: é"


def stall(job: Job) -> None:
    job.state, job.lease, job.stalls, job.order = State.WAITING, None, 300, -5


def progress(job: Job) -> None:
    job.progress = 33.25
    job.noted().message = "a third"


CHANGES = [deliver, fail, stall, progress]


@pytest.fixture
def log_of(tmp_path: Path):
    """A store, and what a batch of one changed job adds to its log."""
    store = SqliteStore(tmp_path / "queue.db")
    ledger = Ledger(store)
    job = make_job(1, data=LARGE)
    ledger.write([job])
    store.checkpoint(restart=True)

    def added(change: Callable[[Job], None]) -> int:
        change(job)
        before = (tmp_path / "queue.db-wal").stat().st_size
        ledger.write([], [job])
        assert loaded(store) == {job.id: facts(job)}
        return (tmp_path / "queue.db-wal").stat().st_size - before

    yield added
    store.close()


def test_what_changes_of_a_large_job_does_not_write_its_payload_again(log_of: Callable[[Callable[[Job], None]], int]):
    assert [log_of(change) < len(LARGE) // 10 for change in (*CHANGES, *reversed(CHANGES))] == [True] * 8


def test_a_note_that_outgrows_its_row_makes_it_longer_once(log_of: Callable[[Callable[[Job], None]], int]):
    def explain(job: Job) -> None:
        job.noted().error = "e" * (2 * _GRAIN)

    assert log_of(explain) > len(LARGE)
    assert log_of(deliver) < len(LARGE) // 10


@pytest.mark.parametrize("note", [None, Note(), Note(error="x"), Note(waiting_on={"a"})])
def test_it_is_read_as_it_was(note: Note | None):
    job = make_job(1, data=LARGE, note=note)
    row = new_row(job)
    assert row[-1].endswith(" ")
    assert (Reader().one(row).note or Note()) == (note or Note())
    assert changed_row(job)[-2] == row[-1]


def test_a_row_that_is_not_large_is_not_filled():
    assert new_row(make_job(1, data=LARGE[:_LARGE_BYTES]))[-1].endswith(" ")
    assert new_row(make_job(1, data=LARGE[: _LARGE_BYTES - 1]))[-1] is None
    assert changed_row(make_job(1))[-2] is None
