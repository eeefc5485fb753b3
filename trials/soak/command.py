"""Hours of mixed load on a real server with short retention: memory, files and latency over time, and a verdict.

`python3 scripts/soak.py --hours 1` samples the server, writes a table (CSV) and a picture (SVG), and fails when anything
goes on growing after the warm-up: retention bounds what finished, workers keep up, so nothing has a reason to.
"""

import argparse
import csv
import random
import re
import statistics
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import apsw
import httpx
import trio

from bunqueue_trio.config import CHECKPOINT_FINISH_BYTES
from bunqueue_trio.storage.sqlite.inspect import examine
from bunqueue_trio.testing.client import Cut
from trials.lib.machine import describe
from trials.lib.places import PYTHONPATH
from trials.lib.servers import Kind, Server
from trials.soak.chart import Panel, chart
from trials.soak.load import Tally, run

RATE = 100.0  # jobs a second: a third of one core of a small machine, clients included
SAMPLES = 240  # in all; enough for a picture and for a slope that does not depend on one of them
SHORTEST_S = 1.0  # between two: the server's own gauges are not younger
WARM_UP = 1 / 3  # of the time: caches and the allocator's arenas fill slowly
# Small: at the usual rate all are reached within a minute, and the rest of the time shows what they hold.
RETENTION = {"retention-completed-max": 2000, "retention-dead-max": 100, "retention-events-max": 10_000,
             "retention-actions-max": 500}  # fmt: skip

# What may be added between the end of the warm-up and the end: noise of the allocator, of checkpoints, of the machine.
TOLERANCES = {"rss_mb": (0.05, 3.0), "db_mb": (0.05, 1.0), "wal_mb": (0.05, 4.0), "unfinished": (0.1, 100.0),
              "finished": (0.05, 100.0), "fact_rows": (0.05, 100.0), "trail_rows": (0.05, 100.0)}  # fmt: skip
"""Measurement → (share of its median, and in its own unit) that it may seem to grow by."""
# The file of the log keeps the largest size that it ever had, which a machine that is busy with other things comes to
# by and by. Half more than where commits begin to wait for it: what comes in while it is moved.
CEILINGS = {"wal_mb": 1.5 * CHECKPOINT_FINISH_BYTES / 1e6}
"""Measurement → what it may reach, however it gets there."""
TRIED = 5  # so often an act may be refused before it says something
LATENCIES = ("push_p50_ms", "push_p99_ms", "loop_lag_ms")


@dataclass(frozen=True)
class Sample:
    """What was seen at one moment, or since the one before."""

    minute: float
    rss_mb: float
    db_mb: float
    wal_mb: float
    push_p50_ms: float
    push_p99_ms: float
    loop_lag_ms: float
    commits_per_s: float
    pushed_per_s: float
    completed_per_s: float
    unfinished: float
    finished: float
    fact_rows: float
    trail_rows: float
    connections: float
    refused: int
    missed_events: int
    acts: int


class Sampler:
    """Looks at a server again and again."""

    def __init__(self, server: Server, tally: Tally) -> None:
        """Begin now."""
        self._server = server
        self._tally = tally
        self._http = httpx.AsyncClient(base_url=server.url, trust_env=False, verify=False, timeout=30.0)
        self._begun = self._last = time.monotonic()
        self._before: dict[str, float] = {}
        self.samples: list[Sample] = []

    async def look(self) -> Sample:
        """Take a sample."""
        page = (await self._http.get("/prometheus")).text
        now, values = time.monotonic(), metrics(page)
        seconds, self._last = now - self._last, now
        tally, data = self._tally, self._server.directory / "queue.db"

        def since(name: str) -> float:
            return values[name] - self._before.get(name, 0.0)

        lag = since("bunqueue_event_loop_lag_ms_sum") / max(1.0, since("bunqueue_event_loop_lag_ms_count"))
        latencies = sorted(tally.latencies_ms) or [0.0]
        states = {state: values.get(f'bunqueue_jobs{{state="{state}"}}', 0.0) for state in STATES}
        sample = Sample(
            minute=(now - self._begun) / 60,
            rss_mb=self._server.rss_bytes() / 1e6,
            db_mb=size_mb(data),
            wal_mb=size_mb(Path(f"{data}-wal")),
            push_p50_ms=latencies[len(latencies) // 2],
            push_p99_ms=latencies[len(latencies) * 99 // 100],
            loop_lag_ms=lag,
            commits_per_s=since("bunqueue_commits_total") / seconds,
            pushed_per_s=tally.pushed / seconds,
            completed_per_s=tally.completed / seconds,
            unfinished=sum(n for state, n in states.items() if state not in FINISHED),
            finished=sum(states[state] for state in FINISHED),
            fact_rows=rows(data, "fact"),
            trail_rows=rows(data, "trail_line"),
            connections=sum(n for name, n in values.items() if name == 'bunqueue_connections{kind="http"}'),
            refused=tally.refused,
            missed_events=tally.missed,
            acts=sum(done for _, done in tally.acts.values()),
        )
        self._before = values
        tally.latencies_ms, tally.pushed, tally.completed = [], 0, 0
        self.samples.append(sample)
        return sample


FINISHED = ("completed", "failed")
STATES = ("waiting", "delayed", "waiting-children", "active", *FINISHED)


def size_mb(path: Path) -> float:
    """Return the size of a file that may not be there."""
    return path.stat().st_size / 1e6 if path.exists() else 0.0


def rows(path: Path, table: str) -> float:
    """Return how many rows a table has, beside the server that writes to it."""
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        return float(connection.execute(f"SELECT count(*) FROM {table}").get)


def metrics(page: str) -> dict[str, float]:
    """Return all values of a page in the Prometheus text format."""
    return {name: float(value) for name, value in re.findall(r"^(\w+(?:\{[^}]*\})?) (\S+)$", page, re.MULTILINE)}


async def soak(server: Server, seconds: float, rate: float, rng: random.Random, tally: Tally) -> list[Sample]:
    """Load the server for `seconds` and return the samples."""
    sampler = Sampler(server, tally)
    every = max(SHORTEST_S, seconds / SAMPLES)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, server.url, rate, tally, rng)
        with trio.move_on_after(seconds):
            while True:
                await trio.sleep(every)
                show(await sampler.look())
        nursery.cancel_scope.cancel()
    return sampler.samples


def show(sample: Sample) -> None:
    """Print a sample as a line."""
    print(
        f"{sample.minute:7.2f} min  rss {sample.rss_mb:6.1f} MB  file {sample.db_mb:6.2f} MB  log {sample.wal_mb:5.2f} MB  "
        f"push p50 {sample.push_p50_ms:6.2f} p99 {sample.push_p99_ms:7.2f} ms  lag {sample.loop_lag_ms:5.2f} ms  "
        f"{sample.commits_per_s:5.0f} commits/s  {sample.completed_per_s:5.0f} done/s  {sample.unfinished:5.0f} open  "
        f"{sample.fact_rows:4.0f} facts  {sample.trail_rows:5.0f} lines",
        flush=True,
    )


def growth(minutes: list[float], values: list[float]) -> float:
    """Return by how much the values grow from begin to end: Theil and Sen's slope, which no outlier moves."""
    slopes = [
        (values[j] - values[i]) / (minutes[j] - minutes[i])
        for i in range(len(values))
        for j in range(i + 1, len(values))
    ]
    return statistics.median(slopes) * (minutes[-1] - minutes[0]) if slopes else 0.0


def judge(samples: list[Sample]) -> list[str]:
    """Return a line for each measurement after the warm-up; all but `steady` and `seen` is a failure."""
    steady = [sample for sample in samples if sample.minute >= samples[-1].minute * WARM_UP]
    minutes = [sample.minute for sample in steady]
    lines = []
    for name, (share, least) in TOLERANCES.items():
        values = [float(getattr(sample, name)) for sample in steady]
        median, grown = statistics.median(values), growth(minutes, values)
        allowed = max(least, share * median)
        word = "GROWS" if grown > allowed and max(values) > CEILINGS.get(name, 0) else "steady"
        lines.append(f"{word:<7}{name:<12} median {median:9.2f}  growth {grown:+8.2f}  allowed {allowed:7.2f}")
    # Latency is shown and not judged: what else the machine does has more to say in it.
    seen = {name: statistics.median(getattr(each, name) for each in steady) for name in LATENCIES}
    lines += [f"{'seen':<7}{name:<12} median {median:9.2f}" for name, median in seen.items()]
    last = samples[-1]
    lines.append(f"{'LOST' if last.missed_events else 'steady':<7}events missed by the watcher: {last.missed_events}")
    lines.append(f"{'REFUSED' if last.refused else 'steady':<7}pushes refused: {last.refused}")
    return lines


def useless(tally: Tally) -> list[str]:
    """Return a line for each act of an operator that was refused whenever it was tried, and one for all others."""
    refused = sorted(name for name, (sent, done) in tally.acts.items() if sent >= TRIED and not done)
    done = sum(count for _, count in tally.acts.values())
    lines = [f"steady operators did {done:,} acts of {len(tally.acts) - len(refused)} kinds"]
    return lines + [f"REFUSED {name}, each time: that shows nothing" for name in refused]


def write(samples: list[Sample], table: Path | None, picture: Path | None, subtitle: str) -> None:
    """Write the samples down and draw them."""
    if table is not None:
        with table.open("w", newline="") as file:
            writer = csv.DictWriter(file, [f.name for f in fields(Sample)])
            writer.writeheader()
            writer.writerows({name: round(value, 3) for name, value in asdict(sample).items()} for sample in samples)
    if picture is not None:
        panels = [
            ("resident memory, MB", "rss_mb"), ("database file, MB", "db_mb"), ("write-ahead log, MB", "wal_mb"),
            ("push p50, ms", "push_p50_ms"), ("push p99, ms", "push_p99_ms"), ("event loop lag, ms", "loop_lag_ms"),
            ("commits a second", "commits_per_s"), ("unfinished jobs", "unfinished"), ("finished jobs kept", "finished"),
            ("facts", "fact_rows"), ("acts, attempts and log lines", "trail_rows"),
        ]  # fmt: skip
        minutes = [sample.minute for sample in samples]
        drawn = [Panel(label, [getattr(sample, name) for sample in samples]) for label, name in panels]
        title = "Mixed load over time: no growth beyond the retention settings"
        picture.write_text(chart(title, subtitle, minutes, minutes[-1] * WARM_UP, drawn))


def main() -> int:
    """Run the soak and return the exit code: 0 when nothing grows."""
    parser = argparse.ArgumentParser(description="Load a real server for a long time and look whether anything grows.")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--hours", type=float, metavar="H", help="how long (default: 1)")
    length.add_argument(
        "--minutes", type=float, metavar="M", help="the same in minutes; below 3 the verdict means little"
    )
    parser.add_argument("--rate", type=float, default=RATE, metavar="N", help=f"jobs a second (default: {RATE:.0f})")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="where the server's file is (default: a temporary one)"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="chooses what the clients do (default: 1)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write all samples there")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw them there")
    options = parser.parse_args()
    minutes = options.minutes if options.minutes is not None else 60 * (options.hours or 1.0)
    if minutes <= 0 or options.rate <= 0:
        parser.error("--hours, --minutes and --rate must be more than 0")

    machine = describe("")
    flags = [part for name, value in RETENTION.items() for part in (f"--{name}", str(value))]
    kind = Kind(
        "the server", "", (sys.executable, "-m", "bunqueue_trio", "serve", *flags), (("PYTHONPATH", PYTHONPATH),)
    )
    with tempfile.TemporaryDirectory(prefix="soak-", dir=options.data) as directory:
        server = Server(kind, Path(directory))
        try:
            tally = Tally()
            samples = trio.run(soak, server, minutes * 60, options.rate, random.Random(options.seed), tally)
            report = examine(Path(directory) / "queue.db", lambda _: None)
            server.stop()
        except (Cut, ExceptionGroup) as error:
            print(f"soak: the server failed its clients: {error!r}; its log: {server.last_words()}", file=sys.stderr)
            return 1
        finally:
            server.kill()
    subtitle = (
        f"{minutes:g} minutes at {options.rate:g} jobs/s; {machine['cores']} cores, Python {machine['python']}, "
        f"SQLite {machine['sqlite']}, {machine['date']}, {machine['commit']}; shaded: warm-up"
    )
    write(samples, options.csv, options.svg, subtitle)
    lines = judge(samples) + useless(tally) + [f"DAMAGED {finding}" for finding in report.findings]
    print(*lines, sep="\n")
    bad = [line for line in lines if not line.startswith(("steady", "seen"))]
    print("nothing grows beyond the retention settings" if not bad else f"{len(bad)} findings")
    return 1 if bad else 0
