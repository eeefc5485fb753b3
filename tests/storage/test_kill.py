"""The end of the process at any moment loses nothing that was committed, and leaves no half of a batch."""

import random
import subprocess
import sys
import time
from pathlib import Path

import apsw
import pytest

from bunqueue_trio.engine.job import State
from bunqueue_trio.storage.sqlite import SqliteStore
from tests.storage.killed_writer import SIZE, facts_of

ROOT = Path(__file__).resolve().parent.parent.parent


def check_whole(path: Path, told: int) -> int:
    """Check that the store is that after some batch, ``told`` or the one after it; return which."""
    store = SqliteStore(path)
    try:
        noted = list(store.load_facts())
        jobs = {job.id: job for job in store.load()}
        n = jobs.pop("staying").run_at
        assert n in (told, told + 1)
        assert noted == [fact for fact in facts_of(n) if fact[2] is not None]
        assert set(jobs) == {f"{n}-{i}" for i in range(SIZE)}
        assert store.finished_counts == ({("q", "completed"): (n - 1) * SIZE} if n > 1 else {})
        assert store.last_event_id == n * SIZE
        kept = 0
        while found := store.events_after(kept, 10**6):  # as many bytes of them as come at once
            assert [event.id for event in found] == list(range(kept + 1, kept + 1 + len(found)))
            kept = found[-1].id
        assert kept == n * SIZE
        records = store.records("q", State.COMPLETED, None, SIZE)
        assert [job.id for job in records.jobs] == [f"{n - 1}-{i}" for i in reversed(range(SIZE))] * (n > 1)
        assert all(store.find(f"{m}-{SIZE - 1}") for m in range(1, n))
    finally:
        store.close()
    connection = apsw.Connection(str(path))
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    return n


@pytest.mark.slow
def test_after_five_kills_every_batch_is_whole_or_absent(tmp_path: Path):
    rng = random.Random(1)
    path = tmp_path / "queue.db"
    reached = 0
    for _ in range(5):
        command = [sys.executable, "-m", "tests.storage.killed_writer", str(path)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(rng.randrange(1, 90)):
                told = int(writer.stdout.readline())
            time.sleep(rng.random() * 0.002)  # somewhere inside the next batches
            writer.kill()
            rest = writer.stdout.read().split()
        told = int(rest[-1]) if rest else told
        assert told > reached
        reached = check_whole(path, told)
