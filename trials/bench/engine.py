"""The engine alone, and what a backlog costs a real server: microseconds, bytes, seconds, checked against what is required.

Engines with a small and a large backlog run in processes of their own and take turns, so that the ratio of their costs
comes from pairs measured one right after the other.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trials.lib.places import PYTHONPATH
from trials.lib.raw_http import PAYLOAD_BYTES, fill
from trials.lib.servers import BenchError, Kind, Server

OPERATIONS = ("push", "pull", "ack")

# Required of a release. The sizes that they are meant for are the defaults of the command line.
US_MAX = 15.0
GROWTH_MAX = 1.3
BYTES_MAX = 700.0
START_MAX_S = 3.0

Numbers = dict[str, float]


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    backlogs: tuple[int, int]
    jobs: int
    repeats: int
    server_jobs: int


@dataclass(frozen=True)
class Check:
    """One requirement and what was found."""

    title: str
    value: float
    limit: float
    unit: str

    @property
    def is_met(self) -> bool:
        """Tell whether it holds."""
        return self.value <= self.limit


def measure_engine(sizes: Sizes) -> dict[str, Any]:
    """Return the cost of each operation at both backlogs, the first time, in the median, and the growth between them."""
    turns: dict[int, list[Numbers]] = {backlog: [] for backlog in sizes.backlogs}
    with ExitStack() as stack:
        workers = {backlog: stack.enter_context(_worker(backlog, sizes.jobs)) for backlog in sizes.backlogs}
        fills = {backlog: _answer(worker)["fill_us"] for backlog, worker in workers.items()}
        for turn in range(sizes.repeats + 1):  # the first is the warm-up
            for backlog in sizes.backlogs if turn % 2 else reversed(sizes.backlogs):
                turns[backlog].append(_ask(workers[backlog]))
    small, large = sizes.backlogs
    growths = [
        sum(many[op] for op in OPERATIONS) / sum(few[op] for op in OPERATIONS)
        for few, many in zip(turns[small][1:], turns[large][1:], strict=True)
    ]
    return {
        "jobs": sizes.jobs,
        "repeats": sizes.repeats,
        "growth": statistics.median(growths),
        "growths": growths,
        "backlogs": {
            str(backlog): {
                "fill_us": fills[backlog],
                "first": turns[backlog][0],
                "median": {name: statistics.median(t[name] for t in turns[backlog][1:]) for name in turns[backlog][0]},
            }
            for backlog in sizes.backlogs
        },
    }


def measure_backlog(kind: Kind, jobs: int, data_dir: Path | None = None) -> Numbers:
    """Return what `jobs` waiting jobs cost a server: bytes each, and seconds until it is ready again."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=data_dir, ignore_cleanup_errors=True) as directory:
        server = Server(kind, Path(directory))
        try:
            empty_start_s = server.start_s
            with server.connect() as connection:
                fill(connection, "warm", 1000)  # what is allocated once is not a job's
                idle = _settled_rss(server)
                begun = time.monotonic()
                fill(connection, "backlog", jobs)
                filled_s = time.monotonic() - begun
            full = _settled_rss(server)
            server.stop()
            server = Server(kind, Path(directory))
            loaded = _settled_rss(server)
        finally:
            server.kill()
    return {
        "bytes_per_job": (full - idle) / jobs,
        "idle_mb": idle / 1e6,
        "full_mb": full / 1e6,
        "reloaded_mb": loaded / 1e6,
        "fill_per_s": jobs / filled_s,
        "start_s": server.start_s,
        "empty_start_s": empty_start_s,
    }


def checks(engine: dict[str, Any], backlog: Numbers) -> list[Check]:
    """Compare with what is required."""
    found = [
        Check(f"{operation} at {int(size):,} waiting", costs["median"][operation], US_MAX, "µs")
        for size, costs in engine["backlogs"].items()
        for operation in OPERATIONS
    ]
    return [
        *found,
        Check("growth of the cost between the two", engine["growth"], GROWTH_MAX, "×"),
        Check(f"memory per waiting job of {PAYLOAD_BYTES} bytes", backlog["bytes_per_job"], BYTES_MAX, "bytes"),
        Check("start with that backlog", backlog["start_s"], START_MAX_S, "s"),
    ]


def _settled_rss(server: Server) -> int:
    """Return the memory after a collection, when the write-ahead log has been worked off."""
    server.collect_garbage()
    time.sleep(2.0)  # the checkpointer looks once a second
    return server.rss_bytes()


@contextmanager
def _worker(backlog: int, jobs: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "trials.bench.engine_worker", str(backlog), str(jobs)]
    environment = os.environ | {"PYTHONPATH": PYTHONPATH, "PYTHONHASHSEED": "0"}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        try:
            yield worker
        finally:
            worker.kill()


def _ask(worker: subprocess.Popen[str]) -> Numbers:
    assert worker.stdin is not None, "workers are started with pipes"
    worker.stdin.write("\n")
    worker.stdin.flush()
    return _answer(worker)


def _answer(worker: subprocess.Popen[str]) -> Numbers:
    assert worker.stdout is not None, "workers are started with pipes"
    line = worker.stdout.readline()
    if not line:
        raise BenchError(f"an engine worker ended with {worker.wait()}")
    numbers: Numbers = json.loads(line)
    return numbers
