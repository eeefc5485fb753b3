"""The floor: SQLite's own insert rate for the server's own rows, and a bare Trio socket under the same load.

A server that commits before it answers cannot be faster than these two; how far it is from them is its own doing.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import apsw
import uuid_utils
from msgspec import Raw

from bunqueue_trio.engine.commands import apply
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.storage.making import make_batch
from bunqueue_trio.storage.sqlite import SqliteStore
from bunqueue_trio.storage.store import Batch
from bunqueue_trio.testing.process import HOST
from trials.bench import wrk
from trials.bench.engine_worker import QUEUE, Empty
from trials.bench.loads import Timing
from trials.lib.places import ROOT
from trials.lib.raw_http import payload
from trials.lib.servers import TICKS_PER_S, BenchError, cpu_ticks

BATCHES = 200  # made beforehand and written with new keys again and again

Numbers = dict[str, float]


def measure_floor(timing: Timing, data_dir: Path | None = None) -> dict[str, Numbers]:
    """Return the floors by their titles."""
    found = {
        "SQLite, 1 row a transaction": _sqlite(1, timing.measured, data_dir),
        "SQLite, 100 rows a transaction": _sqlite(100, timing.measured, data_dir),
        "SQLite with fsync, 1 row a transaction": _sqlite(1, timing.measured, data_dir, durable=True),
        "SQLite with fsync, 100 rows a transaction": _sqlite(100, timing.measured, data_dir, durable=True),
    }
    for connections in (1, 8, 32):
        found[f"Trio socket, {connections} connection{'s' * (connections > 1)}"] = _trio(connections, timing)
    return found


def _sqlite(rows: int, seconds: float, data_dir: Path | None, *, durable: bool = False) -> Numbers:
    """Insert the rows and events of pushes as the store does, in the same schema, with nothing above SQLite."""
    batches = [_batch(rows) for _ in range(BATCHES)]
    with tempfile.TemporaryDirectory(prefix="bench-", dir=data_dir) as directory:
        path = Path(directory) / "floor.db"
        SqliteStore(path).close()  # makes the schema
        database = apsw.Connection(str(path))
        try:
            # Checkpoints are left out, as in the server's commits: there they run beside them.
            synchronous = "FULL" if durable else "NORMAL"
            for pragma in ("journal_mode=WAL", f"synchronous={synchronous}", "wal_autocheckpoint=0"):
                database.execute(f"PRAGMA {pragma}").fetchall()
            insert = f"INSERT INTO job VALUES ({','.join('?' * len(batches[0].new[0]))})"
            written, key = 0, 0
            cpu, begun = time.process_time(), time.perf_counter()
            while (elapsed := time.perf_counter() - begun) < seconds:
                batch = batches[written // rows % BATCHES]
                fresh = [(key + i, *row[1:]) for i, row in enumerate(batch.new, 1)]
                key += rows
                database.execute("BEGIN IMMEDIATE")
                database.executemany(insert, fresh)
                body = b"\n".join(batch.events)
                database.execute(
                    "INSERT INTO event_batch (last_id, count, at, body) VALUES (?, ?, ?, ?)",
                    (key, rows, batch.at, body),
                )
                database.execute("COMMIT")
                written += rows
            cpu = time.process_time() - cpu
        finally:
            database.close()
    return {"rate": written / elapsed, "cpu_us": cpu * 1e6 / written}


def _batch(rows: int) -> Batch:
    """Return what the server writes for `rows` pushes."""
    engine = Engine(lambda now: str(uuid_utils.uuid7()), Empty())
    now = 1_700_000_000_000
    for _ in range(rows):
        apply(engine, c.Push(queue=QUEUE, data=Raw(payload())), now)
    return make_batch(engine.take(), now, durable=False, last_event_id=0)


def _trio(connections: int, timing: Timing) -> Numbers:
    """Put the load of the push measurement on the bare socket."""
    command = [sys.executable, "-m", "trials.bench.echo"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as echo:
        try:
            assert echo.stdout is not None, "it was started with a pipe"
            port = echo.stdout.readline().strip()
            if not port:
                raise BenchError("the bare socket did not start")
            load, url = wrk.push(connections), f"http://{HOST}:{port}"
            wrk.run(load, url, timing.warmup)
            ticks = cpu_ticks(echo.pid)
            found = wrk.run(load, url, timing.measured)
            ticks = cpu_ticks(echo.pid) - ticks
        finally:
            echo.kill()
    return {
        "rate": found.requests / found.seconds,
        "cpu_us": ticks * 1e6 / TICKS_PER_S / found.requests,
        "p50_ms": found.p50_ms,
        "p99_ms": found.p99_ms,
    }
