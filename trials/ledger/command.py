"""Let a schedule run very often, and say what its past costs: `python -m trials.ledger.command 1000000`.

Each slot brings a job, which is taken and done, in virtual time, into a file of SQLite. Costs are CPU time of this thread, so that
what else the machine does is not in them.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import trio
import trio.testing

from bunqueue_trio.config import Settings
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.storage.sqlite.store import SqliteStore
from bunqueue_trio.storage.store import Retention

START_MS = 1_800_000_000_000
AT_ONCE = 500  # slots between two commits
LOOKS = 200

T = TypeVar("T")


def cpu_ms(act: Callable[[], T]) -> tuple[float, T]:
    """Return how much CPU time something took, and what came of it."""
    begun = time.thread_time()
    result = act()
    return (time.thread_time() - begun) * 1000, result


def resident_mb() -> float:
    """Return the memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def size_mb(path: Path) -> float:
    """Return how large a file is."""
    return path.stat().st_size / 2**20


class Life:
    """One life of a server on a file, without transports."""

    def __init__(self, path: Path, clock: trio.testing.MockClock, slots: int) -> None:
        self._clock = clock
        self._store = SqliteStore(path)
        settings = Settings(retention_completed_max=2 * slots)
        self.server: Server = Server(settings, self._store, Clock(START_MS + round(clock.current_time() * 1000)))

    async def load(self) -> float:
        """Read the file, as a start does; return the CPU time."""
        engine, store = self.server.engine, self._store

        def load() -> None:
            engine.facts.load(store.load_facts())
            engine.load(store.load(), self.server.clock.now())

        return cpu_ms(load)[0]

    def do(self, command: c.Command) -> Any:
        """Let the engine answer a command; it is committed by :meth:`commit`."""
        return self.server.core.begin(command).reply

    async def commit(self) -> None:
        """Write all that has changed."""
        await self.server.journal.flush()

    async def run_slots(self, count: int) -> float:
        """Let ``count`` slots come, one a second, and do their jobs; return the longest step of the scheduler in ms."""
        longest = 0.0
        for _ in range(count):
            self._clock.jump(1)
            longest = max(longest, cpu_ms(self.server.core.advance)[0])
        await self.commit()
        taken = self.do(c.PullBatch(queue="q", count=count))
        await self.commit()
        self.do(c.AckBatch(ids=[job.id for job in taken.jobs], tokens=taken.tokens))
        await self.commit()
        return longest

    def page(self, before: str | None = None) -> tuple[float, Any]:
        """Read a page of the ledger; return its cost too."""
        return cpu_ms(lambda: self.do(c.GetScheduleRuns(name="s", limit=100, before=before)))

    def prune(self, keep: int) -> tuple[float, int]:
        """Let a slice of retention delete what is beyond ``keep`` records; return its cost, and how many went."""
        rule = Retention(keep, keep, 0, 100_000, 0)
        return cpu_ms(lambda: self._store.prune(rule))

    def checkpoint(self) -> None:
        """Copy the write-ahead log back."""
        self._store.checkpoint(restart=True)

    def close(self) -> None:
        """End it."""
        self._store.close()


async def measure(path: Path, slots: int, clock: trio.testing.MockClock) -> None:
    """Print what it costs."""
    life = Life(path, clock, slots)
    await life.load()
    life.do(c.PutSchedule(name="s", queue="q", every=1000, overlap="allow"))
    await life.commit()
    done, steps = 0, list[float]()
    before_mb = resident_mb()
    while done < slots:
        steps.append(await life.run_slots(min(AT_ONCE, slots - done)))
        done += AT_ONCE
        if done % (20 * AT_ONCE) == 0:
            life.checkpoint()  # as a task of the server does
        if done in (AT_ONCE * 20, AT_ONCE * 200) or done >= slots:
            costs = sorted(life.page()[0] for _ in range(LOOKS))
            print(
                f"{done:,} slots ran: a page of 100 {costs[LOOKS // 2]:.2f} ms (most {costs[-1]:.2f}), {resident_mb() - before_mb:.0f} MB more",
                flush=True,
            )
    tail = steps[len(steps) // 10 :]
    print(
        f"the longest step of a slot: {sorted(tail)[len(tail) // 2]:.2f} ms (median of {AT_ONCE} each), most {max(tail):.2f} ms"
    )
    middle = f"{START_MS + slots // 2 * 1000:013d}"
    costs = sorted(life.page(middle)[0] for _ in range(LOOKS))
    print(f"a page in the middle: {costs[LOOKS // 2]:.2f} ms (most {costs[-1]:.2f})")
    facts = sum(
        len(value)
        for kind in ("schedule", "schedule-progress", "schedule-skips")
        for value in life.server.engine.facts.of(kind).values()
    )
    print(f"facts of the schedule: {facts:,} bytes; file: {size_mb(path):.0f} MB")
    life.close()
    life = Life(path, clock, slots)
    print(f"a start reads the file in {await life.load():.1f} ms")
    cost, page = life.page()
    print(f"the first page after it: {cost:.2f} ms, {len(page.past)} entries, the newest {page.past[0].outcome}")
    gone, most = 0, 0.0
    while True:
        cost, count = life.prune(slots // 2)
        if not count:
            break
        gone, most = gone + count, max(most, cost)
    print(f"retention deleted {gone:,} records, the longest slice {most:.2f} ms")
    cost, page = life.page(f"{START_MS + slots // 2 * 1000 - 10_000:013d}")
    print(f"a page of what is not kept: {cost:.2f} ms, {len(page.past)} entries")
    life.close()


@click.command()
@click.argument("slots", type=click.IntRange(min=1000))
def main(slots: int) -> None:
    """Let a schedule run SLOTS times, and print what its past costs."""
    clock = trio.testing.MockClock()
    with tempfile.TemporaryDirectory(prefix="ledger-") as directory:
        trio.run(measure, Path(directory) / "q.db", slots, clock, clock=clock)


if __name__ == "__main__":
    sys.exit(main())
