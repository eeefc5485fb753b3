"""How long one step of the event loop is at most while the backlog grows, and beside it: ``python -m trials.bench.growth [JOBS [QUEUES]]``.

A server in a process of its own notes each step in which its thread used the processor for long, as in ``held.py``. It is given
3,000,000 jobs in bulks of 100, which are a step of 1 ms each, and then looked at, and worked on. It takes 1.5 GB of memory, 1 GB of
disk and some minutes. Fails where a step took more than 5 ms.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from bunqueue_trio.testing.process import ServerProcess
from trials.bench.held import LOG, Http, Told
from trials.bench.steps import STEP_MS
from trials.lib.raw_http import Connection, bulk_body

BULK, PIPELINED, WORKED_ON = 100, 20, 2_000
PARTS = 6
"""The growth is shown in this many parts."""
LOOKS = (
    "/stats",
    "/queues?details=true",
    "/metrics",
    "/prometheus",
    "/findings",
    "/ui",
    "/ui/queues",
    "/jobs?state=waiting&limit=100",
)


def grow(client: Connection, jobs: range, queues: int) -> None:
    """Push these jobs, some bulks at a time."""
    body = bulk_body(BULK)
    numbers = iter(jobs[::BULK])
    while some := [number for number, _ in zip(numbers, range(PIPELINED), strict=False)]:
        for number in some:
            client.send("POST", f"/queues/q-{number // BULK % queues}/jobs/bulk", body)
        for _ in some:
            client.receive()


def work(client: Connection, queues: int) -> None:
    """Take and end some jobs, one by one."""
    for number in range(WORKED_ON):
        job = client.get(f"/queues/q-{number % queues}/jobs")["job"]
        client.post(f"/jobs/{job['id']}/ack", b"{}")


def measure(jobs: int, queues: int, folder: Path | None) -> int:
    """Measure, tell, and return how many kinds of work had too long a step."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=folder) as directory:
        log = Path(directory, "steps")
        settings = {LOG: str(log), "LOG_LEVEL": "warning"}
        command = (sys.executable, "-m", "trials.bench.held", "serve")
        with ServerProcess(Path(directory, "q.db"), settings, command=command, within_s=120) as server:
            told, client = Told(log, STEP_MS), Connection(*server.address)
            told.note("the start")
            for part in range(PARTS):
                begin, end = jobs * part // PARTS // BULK * BULK, jobs * (part + 1) // PARTS // BULK * BULK
                grow(client, range(begin, end), queues)
                told.note(f"up to {end:,} waiting jobs")
            for look in LOOKS:
                Http(server.address).ask("GET", look)
                told.note(f"GET {look}")
            work(client, queues)
            told.note("pulls and acks")
            server.kill()
            return told.end()


def main() -> int:
    """Measure what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("jobs", nargs="?", type=int, default=3_000_000)
    parser.add_argument("queues", nargs="?", type=int, default=1)
    parser.add_argument("--data-dir", type=Path, help="where the file is made")
    given = parser.parse_args()
    return measure(given.jobs, given.queues, given.data_dir)


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
