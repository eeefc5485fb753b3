"""Who looks at an ended job reads of the file what it shows, and no payload of megabytes for nothing."""

from pathlib import Path

import pytest
from msgspec import Raw

from bunqueue_trio.engine.commands import apply
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.job import Job
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.storage.making import make_batch
from bunqueue_trio.storage.sqlite import SqliteStore
from tests.storage.ledger import NOW

READ: dict[type[c.Command], tuple[bool, bool]] = {
    c.GetJob: (True, False), c.GetResult: (False, True), c.WaitJob: (False, True), c.GetState: (False, False),
    c.GetProgress: (False, False), c.Why: (False, False), c.GetAttempts: (False, False), c.GetLogs: (False, False),
    c.AddLog: (False, False), c.ClearLogs: (False, False),
}  # fmt: skip
"""Whether a look at an ended job reads its data, and its result."""


class Noting(SqliteStore):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.read: list[tuple[bool, bool]] = []

    def find(self, job_id: str, *, data: bool = True, result: bool = True) -> Job | None:
        job = super().find(job_id, data=data, result=result)
        if job is not None:
            assert job.note is not None
            self.read.append((bool(job.data), job.note.result is not None))
        return job


@pytest.mark.parametrize("kind", READ)
def test_a_look_reads_what_it_shows(tmp_path: Path, kind: type[c.Command]) -> None:
    store = Noting(tmp_path / "queue.db")
    engine = Engine(lambda _: "one", store)
    apply(engine, c.Push(queue="q", data=Raw(b'"data"')), NOW)
    apply(engine, c.Pull(queue="q"), NOW)
    apply(engine, c.Ack(id="one", result=Raw(b'"result"')), NOW)
    changes = engine.take()
    store.commit(make_batch(changes, NOW, durable=False, last_event_id=0))
    engine.forget(changes.jobs)
    more = {"message": "m"} if kind is c.AddLog else {}
    apply(engine, kind(id="one", **more), NOW)
    assert store.read == [READ[kind]]
    store.close()
