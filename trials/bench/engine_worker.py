"""One engine in a process of its own: fills it, then moves jobs through it each time a line comes in on stdin.

Prints one JSON object a line. The first says what the fill cost; each later one what an operation cost: microseconds of
CPU time, so that what else the machine does is left out, and page faults, so that a memory that is touched for the first
waiting and work are measured apart.
"""

import json
import resource
import sys
import time
from collections.abc import Sequence
from typing import Any

import uuid_utils
from msgspec import Raw

from bunqueue_trio.engine.commands import apply
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.job import Job, Records, State, Trace
from bunqueue_trio.engine.ranking import DeadGroups
from bunqueue_trio.engine.trails import TrailPage
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from trials.lib.raw_http import payload

BATCH = 200  # jobs between two visits of the flusher; a busy group commit holds hundreds
QUEUE = "bench"


class Empty:
    """An archive without a record: the disk is not part of this."""

    def find(self, job_id: str, *, data: bool = True, result: bool = True) -> Job | None:
        """Find nothing."""
        return None

    at_once = True

    def outcomes(self, _: Sequence[str]) -> dict[str, State]:
        """Know nothing."""
        return {}

    def kept_of(self, _: str) -> tuple[int, int]:
        """Count nothing."""
        return 0, 0

    def queues_after(self, *_: object) -> list[str]:
        """List nothing."""
        return []

    def traces(self, *_: object) -> list[Trace]:
        """List nothing."""
        return []

    def records(self, *_: object, **__: object) -> Records:
        """List nothing."""
        return Records([], None)

    def trail(self, *_: object, newest: bool) -> TrailPage:
        """List nothing."""
        return TrailPage([], 0, None)

    dead_groups = DeadGroups({})

    def is_grouped(self, _: str) -> bool:
        """Count nothing wrongly."""
        return True

    last_event_id = 0

    def first_event_id(self) -> int:
        """Return that none is kept."""
        return 1

    def events_after(self, *_: object) -> list[tuple[int, bytes]]:
        """Return nothing."""
        return []

    def first_seen(self, *_: object) -> None:
        """Know nothing."""


class Bench:
    """An engine with a backlog that stays as large as it is."""

    def __init__(self, backlog: int) -> None:
        """Fill the engine."""
        self.engine = Engine(lambda now: str(uuid_utils.uuid7()), Empty())
        self.now = 1_700_000_000_000
        for start in range(0, backlog, BATCH):
            self.push(min(BATCH, backlog - start))

    def push(self, count: int) -> None:
        """Add jobs, each from a command of its own, as a transport would."""
        self.now += 1
        data = payload()
        for _ in range(count):
            apply(self.engine, c.Push(queue=QUEUE, data=Raw(data)), self.now)
        self._commit()

    def pull(self, count: int) -> list[str]:
        """Take jobs; return their ids."""
        ids = []
        for _ in range(count):
            reply = apply(self.engine, c.Pull(queue=QUEUE), self.now)
            assert isinstance(reply, r.PullReply)
            assert reply.job is not None, "the backlog is gone"
            ids.append(reply.job.id)
        self._commit()
        return ids

    def ack(self, ids: list[str]) -> None:
        """Complete jobs."""
        for job_id in ids:
            apply(self.engine, c.Ack(id=job_id), self.now)
        self._commit()

    def _commit(self) -> None:
        """Do to the engine what the flusher does for each transaction."""
        self.engine.forget(self.engine.take().jobs)

    def cycles(self, jobs: int) -> dict[str, float]:
        """Move jobs through the engine; return microseconds for each operation."""
        spent = {"push": 0.0, "pull": 0.0, "ack": 0.0}
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        done = 0
        while done < jobs:
            count = min(BATCH, jobs - done)
            a = time.process_time()
            self.push(count)
            b = time.process_time()
            ids = self.pull(count)
            d = time.process_time()
            self.ack(ids)
            e = time.process_time()
            spent["push"] += b - a
            spent["pull"] += d - b
            spent["ack"] += e - d
            done += count
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
        return {name: seconds * 1e6 / jobs for name, seconds in spent.items()} | {"faults": faults / jobs}


def say(value: Any) -> None:
    """Print a line of JSON."""
    print(json.dumps(value), flush=True)


def main(backlog: int, jobs: int) -> None:
    """Serve until stdin ends."""
    begun = time.process_time()
    bench = Bench(backlog)
    say({"fill_us": (time.process_time() - begun) * 1e6 / max(backlog, 1)})
    for _ in sys.stdin:
        say(bench.cycles(jobs))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
