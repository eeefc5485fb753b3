"""What it costs the engine to know the jobs of each state, their lists and their counts: CPU time of an operation, memory of a job.

`python -m trials.bench.listing`. Engines that keep them and engines that do not take turns, some hundred jobs each, so
that what else the machine does meets both alike; what is shown is the median of the pairs, and their quartiles.
"""

import gc
import statistics
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import Raw

from bunqueue_trio.engine.commands import apply
from bunqueue_trio.engine.job import TRANSITIONS, Job, State
from bunqueue_trio.engine.moves import Moves
from bunqueue_trio.protocol import commands as c
from trials.bench.engine_worker import QUEUE, Bench
from trials.lib.raw_http import payload

PAIRS = 200
JOBS = 500
STORED = 100_000
LATER_MS = 1_000_000
Spent = dict[str, float]


def _bare(self: Moves, job: Job, to: State) -> None:
    """Change the state of a job, and neither a list nor a count."""
    assert to in TRANSITIONS[job.state]
    job.state = to
    self.changed[job] = None


@contextmanager
def _without() -> Iterator[None]:
    kept = Moves._move  # noqa: SLF001 - what is left out
    Moves._move = _bare  # type: ignore[method-assign]  # noqa: SLF001
    try:
        yield
    finally:
        Moves._move = kept  # type: ignore[method-assign]  # noqa: SLF001


def _delayed(bench: Bench, count: int) -> None:
    data = payload()
    for _ in range(count):
        apply(bench.engine, c.Push(queue=QUEUE, data=Raw(data), delay=LATER_MS), bench.now)
    bench.engine.forget(bench.engine.take().jobs)


def _cycle(bench: Bench) -> Spent:
    """Return the microseconds of each operation."""
    spent = bench.cycles(JOBS)
    begun = time.process_time()
    _delayed(bench, JOBS)
    spent["push, delayed"] = (time.process_time() - begun) * 1e6 / JOBS
    return spent


def _pair(first: bool) -> tuple[Spent, Spent]:  # noqa: FBT001 - whose turn it is
    found: dict[bool, Spent] = {}
    for keeps in (first, not first):
        gc.collect()
        gc.disable()
        if keeps:
            found[keeps] = _cycle(Bench(JOBS))
        else:
            with _without():
                found[keeps] = _cycle(Bench(JOBS))
        gc.enable()
    return found[True], found[False]


def _bytes(kind: str) -> float:
    """Return the bytes of a job in this state."""
    tracemalloc.start()
    bench = Bench(0)
    before = tracemalloc.get_traced_memory()[0]
    if kind == "delayed":
        _delayed(bench, STORED)
    else:
        bench.push(STORED)
    if kind == "active":
        bench.pull(STORED)
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return taken / STORED


def main() -> None:
    """Print both tables."""
    pairs = [_pair(first=i % 2 == 0) for i in range(PAIRS)]
    print(
        f"{PAIRS} pairs of {JOBS} jobs; µs of CPU time for each\n\n| operation | with | without | difference | quartiles |"
    )
    print("| --- | ---: | ---: | ---: | ---: |")
    for name in ("push", "push, delayed", "pull", "ack"):
        more = [kept[name] - bare[name] for kept, bare in pairs]
        low, middle, high = statistics.quantiles(more, n=4)
        kept, bare = (statistics.median(pair[i][name] for pair in pairs) for i in (0, 1))
        print(f"| {name} | {kept:.2f} | {bare:.2f} | {middle:.2f} | {low:.2f} to {high:.2f} |")
    print(f"\n{STORED:,} jobs; bytes for each\n\n| state | with | without | difference |\n| --- | ---: | ---: | ---: |")
    for kind in ("waiting", "delayed", "active"):
        kept = _bytes(kind)
        with _without():
            bare = _bytes(kind)
        print(f"| {kind} | {kept:.0f} | {bare:.0f} | {kept - bare:.1f} |")


if __name__ == "__main__":
    main()
