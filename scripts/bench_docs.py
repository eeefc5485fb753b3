"""docs/benchmarks.md, written anew from the numbers of a run, and its chart. Nothing in it is kept from before."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench_compare import Series
from bench_engine import Check
from bench_http import PAYLOAD_BYTES
from bench_report import (
    CHART,
    DOCS,
    busy_clients,
    check_rows,
    comparison_rows,
    draw,
    engine_rows,
    floor_rows,
    latency_rows,
    markdown,
)

PAGE = """# Benchmarks

<!-- Written by `python3 scripts/bench.py compare --write-docs`. Change the script, not this file. -->

`{command}` on {date}, commit {commit}: {ours} and the original, {theirs}.
{cpu}, {cores} cores, {memory_gb} GB, {system}, data on {file_system}; Python {python}, SQLite {sqlite}. Load average
before the run: {load_before}. Where that is not near 0, other work took part of the machine from both servers alike.

![Ratios of all measurements](benchmarks.svg)

## Against the original

{comparison}

- **ratio** is how many times better bunqueue-trio is: more jobs a second, or less time, memory or CPU. It is the median of
  the ratios of {pairs}; a pair is the same load on both servers, one right after the other, in alternating
  order, each on a fresh server with fresh data. **range** is the smallest and the largest of them.
- **CPU** is the server's processor time for each job or cycle, over all its threads. On a machine that does other things as
  well it says more than a rate does.
- A job has {payload} bytes of data. {warmup} s of load come before each measurement of {measured} s. The load generator is wrk for
  HTTP, and a small client of our own for long polls and WebSocket, the same for both servers.
- An answer that is not a success ends the measurement, and the number of answers must agree with the number of jobs that
  the server itself counts.
{left_out}
### What the two promise is not the same

bunqueue-trio answers a push after the transaction that holds it is committed: `kill -9` at any moment loses nothing that
was answered. The original keeps pushes in memory, writes them every 10 ms or 100 jobs, and answers before that; with
`durable` it writes first. Both use SQLite in WAL mode. bunqueue-trio makes a durable commit with `synchronous=FULL`, so
that it survives a power cut; the original stays at `NORMAL`. So "durable" above compares an fsync with none.

Both run with their defaults but for the rate limit, which is off, and logs, which are at `error`; completed jobs are kept
up to the original's 50,000.

## Latency under that load

{latency}

As wrk gives them: a stall counts for all requests that would have been sent in it, not only for those that it held up.

## The engine alone

Processor time for each operation, with the work that a group commit makes for the engine, in a process without a network
and without a disk. Two engines with backlogs of different sizes take turns; medians of {repeats} turns of {jobs:,} jobs. Filling
is where memory is touched for the first time.

{engine}
{checks}
## The floor

SQLite alone, writing the rows and events that the server writes for a push, in the same schema; and a Trio socket that
answers each request of the same load generator with a constant. A transaction for each row is what a server pays that
commits alone; one for a hundred is what group commit can come near to.

{floor}

## Do it yourself

    python3 scripts/bench.py engine            # the engine, memory and start-up, checked
    python3 scripts/bench.py compare           # the tables above; under 15 minutes
    python3 scripts/bench.py compare --quick   # to see that it works
    python3 scripts/bench.py floor

wrk must be installed. The original is installed with npm into a directory of its own, or taken from `--original DIR`.
"""


@dataclass(frozen=True)
class Results:
    """Everything that the page shows."""

    command: str
    machine: dict[str, Any]
    versions: dict[str, str]
    series: Sequence[Series]
    rounds: int
    warmup: int
    measured: int
    engine: dict[str, Any]
    checks: Sequence[Check]
    floor: dict[str, dict[str, float]]


def write(results: Results) -> None:
    """Write the page and its chart."""
    kinds = list(results.versions)
    named = [f"{name} {version}" for name, version in results.versions.items()]
    problems = [f"- Left out: {s.title}: {problem}." for s in results.series for problem in s.problems.values()]
    problems += [f"- {line}." for line in busy_clients(results.series)]
    page = PAGE.format(
        **results.machine,
        command=results.command,
        ours=named[0],
        theirs=named[1] if len(named) > 1 else "which was left out",
        comparison=markdown(*comparison_rows(results.series, kinds)),
        latency=markdown(*latency_rows(results.series, kinds)),
        left_out="".join(f"{problem}\n" for problem in problems),
        pairs="one pair" if results.rounds == 1 else f"{results.rounds} pairs",
        payload=PAYLOAD_BYTES,
        warmup=results.warmup,
        measured=results.measured,
        repeats=results.engine["repeats"],
        jobs=results.engine["jobs"],
        engine=markdown(*engine_rows(results.engine)),
        checks=f"\n{markdown(*check_rows(results.checks))}\n" if results.checks else "",
        floor=markdown(*floor_rows(results.floor)),
    )
    DOCS.parent.mkdir(exist_ok=True)
    DOCS.write_text(page, encoding="utf-8")
    CHART.write_text(draw(results.series, results.rounds), encoding="utf-8")
