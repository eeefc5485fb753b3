"""The story of the demo: produce, work, lose a worker, finish, compare every result."""

import argparse
import signal
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from demo_files import QUEUE, Facts, examine, fails_first, job_id, list_files
from demo_http import answer, connect, send
from demo_processes import BATCH, LEASE_MS, DemoError, Processes

BULK = 100  # jobs in one push
BACKOFF_MS = 50  # so that the failures made on purpose are tried again soon
GIVE_UP_AFTER_S = 60.0  # without any progress
LOOK_EVERY_S = 0.02  # the error of the times measured here
CHECKERS = 8  # threads that fetch results for the comparison

console = Console(highlight=False, soft_wrap=True)


@dataclass
class Times:
    """How long the jobs took: all of them, and those that did not wait for a dead worker's lease."""

    others: float
    all: float


@dataclass
class Outcome:
    """What the run came to."""

    files: int
    bytes: int
    verified: int
    planned_retries: int
    retries: int
    held: int
    redelivered: int

    @property
    def ok(self) -> bool:
        """Tell whether everything the demo set out to show was seen."""
        return (
            self.verified == self.files and self.retries == self.planned_retries and 0 < self.held == self.redelivered
        )


class Display:
    """Show how many jobs are done: a bar on a terminal, now and then a line elsewhere."""

    def __init__(self, bar: Progress | None, total: int) -> None:
        """Show on `bar`, or print lines if there is none."""
        self.bar = bar
        self.total = total
        self.task = None if bar is None else bar.add_task("jobs", total=total)
        self.next_line = max(1, total // 10)

    def show(self, done: int) -> None:
        """Show that `done` jobs are done."""
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=done)
        elif done >= self.next_line:
            say(f"  {done} of {self.total} jobs done")
            self.next_line = done + max(1, self.total // 10) if done < self.total else self.total + 1


def say(line: str) -> None:
    """Print one line now."""
    console.print(line, markup=False)


@contextmanager
def display(total: int) -> Iterator[Display]:
    """Open the progress display that suits the output."""
    if not console.is_terminal:
        yield Display(None, total)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        yield Display(bar, total)


def push(client: httpx.Client, paths: Sequence[str]) -> None:
    """Push one bulk; were it sent twice, the ids derived from the paths would make the second a no-op."""
    jobs = [{"jobId": job_id(p), "data": {"path": p}, "backoff": BACKOFF_MS} for p in paths]
    ids = answer(send(client, f"/queues/{QUEUE}/jobs/bulk", {"jobs": jobs}))["ids"]
    if ids != [job["jobId"] for job in jobs]:
        raise DemoError("the bulk push did not answer with the ids it was given")


def unfinished(client: httpx.Client) -> int:
    """Ask the server how many jobs it still has to finish."""
    stats = answer(client.get("/stats"))["stats"]
    return int(stats["queued"]) + int(stats["processing"]) + int(stats["delayed"])


def run_jobs(client: httpx.Client, processes: Processes, files: Sequence[str]) -> Times:
    """Push every file, look after the workers until nothing is left to do, return the times it took."""
    begin = progressed = time.monotonic()
    others = 0.0
    pushed = best = 0
    with display(len(files)) as shown:
        while True:
            chunk = files[pushed : pushed + BULK]
            if chunk:
                push(client, chunk)
                pushed += len(chunk)
            else:
                time.sleep(LOOK_EVERY_S)
            if processes.look_after():
                say(f"  {processes.victim} killed in the middle of a batch (SIGKILL), another one started")
            left = unfinished(client)
            now = time.monotonic()
            shown.show(max(0, pushed - left))
            if pushed == len(files) and left <= len(processes.held):
                others = others or now - begin
                if left == 0:
                    return Times(others, now - begin)
            if chunk or pushed - left > best:
                best, progressed = max(best, pushed - left), now
            elif now - progressed > GIVE_UP_AFTER_S:
                raise DemoError(f"no progress for {GIVE_UP_AFTER_S:.0f} s, {left} jobs left")


def get(client: httpx.Client, path: str, field: str) -> dict[str, Any]:
    """Return an object out of an answer; it is empty for what the server does not know."""
    response = client.get(path)
    return {} if response.status_code == httpx.codes.NOT_FOUND else answer(response)[field] or {}


def worker_if_right(client: httpx.Client, path: str, expected: Facts) -> str | None:
    """Return the name of the worker whose result for `path` equals `expected`, None if it does not."""
    result = get(client, f"/jobs/{job_id(path)}/result", "result")
    if any(result.get(name) != value for name, value in expected.items()):
        say(f"  WRONG: {path}: {result!r}, expected {expected!r}")
        return None
    return str(result.get("worker"))


def was_retried(client: httpx.Client, path: str) -> bool:
    """Tell whether the job of a chosen file was charged exactly the one failure made on purpose."""
    return get(client, f"/jobs/{job_id(path)}", "job").get("attempts") == 1


def verify(client: httpx.Client, processes: Processes, files: Sequence[str]) -> Outcome:
    """Compute every result again without the queue and compare it with what the server has."""
    expected = [examine(path) for path in files]
    chosen = [path for path in files if fails_first(path)]
    with ThreadPoolExecutor(CHECKERS) as pool:
        workers = list(pool.map(worker_if_right, [client] * len(files), files, expected))
        retries = sum(pool.map(was_retried, [client] * len(chosen), chosen))
    others = {job_id(path) for path, name in zip(files, workers, strict=True) if name not in (None, processes.victim)}
    return Outcome(
        files=len(files),
        bytes=sum(facts["bytes"] for facts in expected),
        verified=len(files) - workers.count(None),
        planned_retries=len(chosen),
        retries=retries,
        held=len(processes.held),
        redelivered=len(processes.held & others),
    )


def report(outcome: Outcome, times: Times, workers: int, server_exit: int) -> None:
    """Print what was measured and seen."""
    files, others = outcome.files, outcome.files - outcome.held
    say(f"files        {files} files, {outcome.bytes} bytes")
    say(
        f"jobs         {others} jobs in {times.others:.2f} s = {others / times.others:.0f} jobs/s with {workers} workers"
    )
    say(
        f"redelivered  {outcome.redelivered} of {outcome.held} jobs of the killed worker, after its lease of {LEASE_MS} ms"
    )
    say(f"retried      {outcome.retries} of {outcome.planned_retries} jobs that failed on purpose, once each")
    say(f"finished     {files} jobs in {times.all:.2f} s, that wait included")
    say(f"server       ended by SIGTERM with exit code {server_exit}")
    say(f"verified {outcome.verified} of {files} results against a direct computation")


def run(files: Sequence[str], workers: int, keep: Path | None) -> bool:
    """Run the whole demo on `files` and tell whether all went right."""
    with tempfile.TemporaryDirectory(prefix="bunqueue-demo-") as scratch:
        data_path = keep or Path(scratch, "demo.db")
        with Processes(Path(scratch), data_path) as processes:
            try:
                processes.start_server()
                say(f"server at {processes.url}, {workers} workers, {len(files)} files")
                processes.start_workers(workers, stop_at=stop_at(len(files), workers))
                with connect(processes.url) as client:
                    times = run_jobs(client, processes, files)
                    processes.stop_workers()
                    outcome = verify(client, processes, files)
                server_exit = processes.stop_server()
            except (DemoError, httpx.HTTPError) as error:
                say(f"failed: {error}\n{processes.account()}")
                return False
    report(outcome, times, workers, server_exit)
    return outcome.ok and server_exit == 0


def stop_at(files: int, workers: int) -> int:
    """Choose the file at which the victim is killed: a quarter into its share, in the middle of a batch."""
    quarter = files // workers // 4
    return quarter - quarter % BATCH + min(BATCH // 2, max(1, files // 4))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="demo.py",
        description="Run every file of a directory tree through a real server, and prove every result.",
    )
    parser.add_argument(
        "--tree",
        type=Path,
        default=Path(sysconfig.get_path("stdlib")),
        metavar="DIR",
        help="the files to work on (default: Python's standard library, %(default)s)",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="take only the first N files")
    parser.add_argument("--workers", type=int, default=3, metavar="N", help="worker processes (default: %(default)s)")
    parser.add_argument("--keep", type=Path, metavar="DATA_FILE", help="keep the server's store in this file")
    args = parser.parse_args(argv)
    args.tree = args.tree.resolve()
    if args.workers < 1 or (args.limit is not None and args.limit < 1):
        parser.error("--workers and --limit take a number of at least 1")
    if args.keep is not None and not args.keep.resolve().parent.is_dir():
        parser.error(f"--keep: there is no directory {args.keep.resolve().parent}")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo from the command line; return the exit code."""
    args = parse(argv)
    files = list_files(args.tree, args.limit)
    if not files:
        sys.exit(f"no readable files under {args.tree}")
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        return 0 if run(files, args.workers, args.keep and args.keep.resolve()) else 1
    except KeyboardInterrupt:
        say("interrupted; every process has been ended")
        return 128 + signal.SIGINT
