"""What is kept beside a job costs: the group of an error, the line of a failed attempt, a line of a log; in CPU time of the engine, and in bytes of the file.

Each is measured in pairs, with it and without it, one right after the other; the median of the differences counts.

    python3 -m trials.bench.kept
"""

import gc
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from msgspec import Raw

from bunqueue_trio.engine.commands import apply
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.storage.making import make_batch
from bunqueue_trio.storage.memory import MemoryStore
from bunqueue_trio.storage.sqlite import SqliteStore

JOBS, PAIRS = 5000, 15
NOW = 1_700_000_000_000
STACK = "Traceback (most recent call last):\n" + "\n".join(
    f'  File "job.py", line {n}, in f{n}\n    step()' for n in range(12)
)


def engine() -> Engine:
    """Return an empty engine."""
    made = iter(range(10**9))
    return Engine(lambda _: f"id-{next(made):08}", MemoryStore())


def prepared(jobs: int) -> tuple[Engine, list[str]]:
    """Return an engine with active jobs, and their ids."""
    bench = engine()
    for _ in range(jobs):
        apply(bench, c.Push(queue="q", data=Raw(b"{}"), max_attempts=5, backoff=60_000), NOW)
    taken = apply(bench, c.PullBatch(queue="q", count=jobs), NOW)
    bench.take()
    return bench, [job.id for job in taken.jobs]  # type: ignore[attr-defined]


def fails(text: Callable[[int], str], stack: str | None = None) -> float:
    """Return the µs of a failure after which a job is tried again, and of its next delivery."""
    bench, ids = prepared(JOBS)
    commands = [c.Fail(id=job_id, error=text(n), stack=stack, retry_in=0) for n, job_id in enumerate(ids)]
    gc.collect()
    begun = time.process_time()
    for command in commands:
        apply(bench, command, NOW)
    apply(bench, c.PullBatch(queue="q", count=JOBS), NOW)
    return (time.process_time() - begun) / JOBS * 1e6


def logs() -> float:
    """Return the µs of a line in a log."""
    bench, ids = prepared(JOBS)
    commands = [c.AddLog(id=job_id, message="half way through the file") for job_id in ids]
    gc.collect()
    begun = time.process_time()
    for command in commands:
        apply(bench, command, NOW)
    return (time.process_time() - begun) / JOBS * 1e6


class _Nobody(dict[str, Any]):
    """Stands for the groups of those that are tried again."""

    def add(self, job: object) -> None:
        """Forget it."""

    take = add

    def rank_some(self) -> bool:
        """Have nothing to rank."""
        return True


def _no_group(_: str) -> SimpleNamespace:
    return _NO_GROUP


def _nothing(*_: object, **__: object) -> None:
    """Do nothing."""


_NO_GROUP = SimpleNamespace(key=None)


@contextmanager
def without_groups() -> Any:
    """Find no group, and keep none."""
    with (
        mock.patch("bunqueue_trio.engine.moves.Retrying", _Nobody),
        mock.patch("bunqueue_trio.engine.holding.fingerprint", _no_group),
    ):
        yield


@contextmanager
def without_attempts() -> Any:
    """Write no line for a failed attempt."""
    with mock.patch("bunqueue_trio.engine.holding.note_attempt", _nothing):
        yield


def paired(measure: Callable[[], float], without: Callable[[], Any]) -> tuple[float, float]:
    """Return the µs with what is measured, and the median of what it adds."""
    with_it, added = list[float](), list[float]()
    for _ in range(PAIRS):
        with_it.append(measure())
        with without():
            added.append(with_it[-1] - measure())
    return statistics.median(with_it), statistics.median(added)


def file_bytes(command: Callable[[str, int], c.Command] | None) -> float:
    """Return the bytes of the file for each of some waiting jobs about which a command was sent while they were active."""
    with tempfile.TemporaryDirectory() as directory:
        store = SqliteStore(Path(directory) / "q.db")
        made = iter(range(10**9))
        bench = Engine(lambda _: f"id-{next(made):08}", store)

        def write() -> None:
            changes = bench.take()
            store.commit(make_batch(changes, NOW, durable=False, last_event_id=store.last_event_id))
            bench.forget(changes.jobs)

        for _ in range(JOBS):
            apply(bench, c.Push(queue="q", data=Raw(b"{}"), max_attempts=5), NOW)
        taken = apply(bench, c.PullBatch(queue="q", count=JOBS), NOW)
        write()
        for n, job in enumerate(taken.jobs if command is not None else ()):  # type: ignore[attr-defined]
            assert command is not None
            bench.events.clear()
            apply(bench, command(job.id, n), NOW)
        bench.events.clear()
        write()
        space = store.space()
        store.checkpoint(restart=True)
        size = Path(directory, "q.db").stat().st_size - space.free
        store.close()
    return size / JOBS


def main() -> None:
    """Measure all of them."""
    same, others = (
        (lambda _: "timeout after 30 s"),
        (lambda n: f"no answer from 10.0.{n % 250}.{n // 250} for job {n * 7919}"),
    )
    for name, text in (("the same text", same), ("another text each time", others)):
        whole, added = paired(lambda text=text: fails(text), without_groups)  # type: ignore[misc]
        print(
            f"a failure that is tried again, and the next delivery, {name}: {whole:.1f} µs, of which its group {added:.1f} µs"
        )
    whole, added = paired(lambda: fails(same), without_attempts)
    print(f"the line of a failed attempt: {added:.1f} of {whole:.1f} µs")
    whole, added = paired(lambda: fails(same, STACK), without_attempts)
    print(f"the same with a stack of {len(STACK):,} characters: {added:.1f} of {whole:.1f} µs")
    print(f"a line in a log: {statistics.median(logs() for _ in range(PAIRS)):.1f} µs")
    plain = file_bytes(None)
    failed = file_bytes(lambda job_id, _: c.Fail(id=job_id, error="timeout after 30 s"))
    logged = file_bytes(lambda job_id, _: c.AddLog(id=job_id, message="half way through the file"))
    print(
        f"bytes of the file: a job {plain:.0f}, with a failed attempt {failed - plain:+.0f}, with a line in its log {logged - plain:+.0f}"
    )


if __name__ == "__main__":
    main()
