"""docs/measured/benchmarks.md, written anew from the numbers of a run, and its chart.

Nothing in it is kept from before but the section of the Python libraries, which are measured by another command.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trials.bench.compare import Series
from trials.bench.engine import Check
from trials.bench.peers import Found, loss_rows, peer_rows
from trials.bench.peers_stores import REDIS_VERSION
from trials.bench.report import (
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
from trials.lib.raw_http import PAYLOAD_BYTES

PAGE = """# Benchmarks, as measured

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
  HTTP, and a small client of our own for waiting pulls and WebSocket, the same for both servers.
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

{peers}
What follows from it, and how to do it yourself: [benchmarks.md](../benchmarks.md).
"""

PEERS_BEGIN, PEERS_END = "<!-- The section of `bench.py peers --write-docs`. -->\n", "<!-- Its end. -->\n"
PEERS_SECTION = """
## Beside what users would pick otherwise

`{command}` on {date}, commit {commit}, load average before the run {load_before}: {cpu}, {cores} cores, data on
{file_system}, Python {python}. Medians (and ranges) of {rounds} turn{s} with {jobs:,} no-op jobs of {payload} bytes each, each on a fresh store.

{table}

- **enqueue**: one process, one call after the other. bunqueue-trio: a Trio `Client` on a WebSocket; RQ: `enqueue` and
  `enqueue_many`; Celery: `delay`; Dramatiq: `send`; BullMQ: `add` and `addBulk` in Node; beanstalkd: `put` of greenstalk; RabbitMQ: pika with
  publisher confirms and a quorum queue; NATS: `publish` of nats-py to a JetStream stream in files, 100 at a time for "bulk". Where there is a "–", the library has no call that sends many at once.
- **drain**: one worker as its users start it, while nothing is enqueued, from the first job that runs to the last; its start is
  not in it. A worker that forks for each job gets a tenth of the jobs. Logs are at warnings.
- bunqueue-trio keeps completed jobs and their events, RQ keeps results for 500 s; all others keep nothing (BullMQ with `removeOnComplete`).
- Redis {redis} with `appendonly yes` and `appendfsync everysec`, which is closest to our default; over TCP on the
  loopback, like ours. Huey has no server; its default makes an fsync for each job.
- **waiting after kill -9**: after the enqueueing the store is killed and started again, and what waits is counted.

What is promised is not the same, so the rates are not of the same thing:

{losses}

Waiting jobs after a killed store are counted above. The rest was not tried here: for the libraries it is what their
documentation and code say of their defaults. Celery has `acks_late`, RQ has `Retry`, Redis has `appendfsync always`.
{left_out}"""


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
        peers=_peers_section(),
    )
    DOCS.parent.mkdir(parents=True, exist_ok=True)
    DOCS.write_text(page, encoding="utf-8")
    CHART.write_text(draw(results.series, results.rounds), encoding="utf-8")


def write_peers(
    command: str, machine: dict[str, Any], found: Sequence[Found], left_out: Sequence[str], jobs: int, rounds: int
) -> None:
    """Write the section of the Python libraries; the rest of the page stays."""
    section = PEERS_SECTION.format(
        **machine,
        command=command,
        jobs=jobs,
        rounds=rounds,
        s="s" * (rounds != 1),
        payload=PAYLOAD_BYTES,
        redis=REDIS_VERSION,
        table=markdown(*peer_rows(found)),
        losses=markdown(*loss_rows(found)),
        left_out="".join(f"\n{line}.\n" for line in left_out),
    )
    page, old = DOCS.read_text(encoding="utf-8"), _peers_section()
    if old not in page:
        raise ValueError(f"{DOCS.name} has no place for the section; `bench.py compare --write-docs` makes it")
    DOCS.write_text(page.replace(old, f"{PEERS_BEGIN}{section}\n{PEERS_END}"), encoding="utf-8")


def _peers_section() -> str:
    """Return the section as it is on the page, with its marks; an empty one when there is no page yet."""
    page = DOCS.read_text(encoding="utf-8") if DOCS.exists() else ""
    begin, end = page.find(PEERS_BEGIN), page.find(PEERS_END)
    return page[begin : end + len(PEERS_END)] if 0 <= begin < end else PEERS_BEGIN + PEERS_END
