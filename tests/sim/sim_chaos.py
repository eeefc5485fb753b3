"""What goes wrong: crashes, a failing disk, killed tasks, torn connections, stepped and stopped clocks.

Each seed likes some faults more than others and leaves some out. All of it ends with the first phase.
"""

import random
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

import trio

from tests.storage.faulty import Fault

if TYPE_CHECKING:
    from tests.sim.sim_world import World

KILLS_IN_A_ROW = 4  # a supervised task may fail five times a minute; a sixth ends the server, rightly
DISK_DELAYS_S: tuple[tuple[float, ...], ...] = ((0.0,), (0.0, 0.002), (0.01, 0.05), (0.0, 2.0))
"""How long a commit may take in its thread, before it is on the disk and after."""


class TaskKilled(Exception):
    """A supervised task has failed, for no reason of its own."""


class Chaos:
    """Draws one fault after the other."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.rng = rng = world.rng("chaos")
        self.faults: list[Callable[[], Awaitable[None]]] = [
            self.kill, self.stop, self.outage, self.blindness, self.step_clock, self.freeze, self.kill_task,
            self.cut_one, self.cut_all, self.slow_disk,
        ]  # fmt: skip
        self.weights = [rng.choice((0, 1, 1, 3)) for _ in self.faults]
        self.weights[self.faults.index(self.kill_task)] = rng.choice((0, 3, 6))
        self.every_s = rng.choice((20, 60, 180))
        self.outage_s: float = 0
        """Until when the disk refuses everything, in Trio's time."""
        rare = rng.choice((0, 0.003, 0.02))
        self._commit_weights = {
            Fault.NONE: 1.0, Fault.REFUSED: rng.choice((0, 0.02, 0.1)), Fault.GHOST: rng.choice((0, 0.02, 0.1)),
            Fault.CRASH_BEFORE: rare, Fault.CRASH_AFTER: rare,
        }  # fmt: skip
        self._upkeep_weights = {Fault.NONE: 1.0, Fault.REFUSED: rng.choice((0, 0.2))}
        self._kills: list[float] = []
        self.commits = 0
        """How many commits were tried before the end, over all lives."""

    async def run(self) -> None:
        """Make trouble until the calm begins."""
        while not self.world.calm.is_set():
            with trio.move_on_after(self.rng.expovariate(1 / self.every_s)):
                await self.world.calm.wait()
                return
            if any(self.weights):
                await self.rng.choices(self.faults, self.weights)[0]()

    def of_commits(self) -> Iterator[Fault]:
        for fault in self._draw(self._commit_weights, refusal=(Fault.REFUSED, Fault.GHOST)):
            self.commits += not self.world.closing.is_set()
            yield self.world.crash[1] if self.world.crash and self.world.crash[0] == self.commits else fault

    def of_upkeep(self) -> Iterator[Fault]:
        return self._draw(self._upkeep_weights, refusal=(Fault.REFUSED,))

    def _draw(self, weights: dict[Fault, float], refusal: tuple[Fault, ...]) -> Iterator[Fault]:
        rng, kinds, chances = self.rng, list(weights), list(weights.values())
        while True:
            if self.world.calm.is_set():
                yield Fault.NONE
            elif trio.current_time() < self.outage_s:
                yield rng.choice(refusal)
            else:
                fault = rng.choices(kinds, chances)[0]
                if fault is not Fault.NONE:
                    self.say(f"disk: {fault.name}")
                yield fault

    def say(self, what: str) -> None:
        self.world.log("chaos", what)

    # --- the faults ---------------------------------------------------------------------------------

    async def kill(self) -> None:
        """SIGKILL, wherever the tasks are."""
        self.world.die("killed")

    async def stop(self) -> None:
        """SIGTERM, and a start after it."""
        if self.world.server is not None:
            self.say("stop")
            self.world.server.stop.set()

    async def outage(self) -> None:
        """The disk is full for a while."""
        seconds = self.rng.choice((0.02, 0.5, 10, 60))
        self.say(f"disk: refuses everything for {seconds} s")
        self.outage_s = trio.current_time() + seconds

    async def blindness(self) -> None:
        """The disk cannot be read for a while."""
        store = self.world.store
        if store is not None:
            self.say("disk: cannot be read")
            store.blind = True
            with trio.move_on_after(self.rng.choice((0.1, 5))):
                await self.world.calm.wait()
            store.blind = False

    async def step_clock(self) -> None:
        """Somebody sets the wall clock; a server that runs must not notice, the next one must cope."""
        step_ms = self.rng.choice((-600_000, -1000, -1, 1, 1000, 600_000))
        self.say(f"wall clock steps by {step_ms} ms")
        self.world.wall_skew_ms += step_ms

    async def freeze(self) -> None:
        """The whole machine stands still: time passes, nobody runs."""
        seconds = self.rng.choice((0.5, 30, 400))
        self.say(f"everything stands still for {seconds} s")
        self.world.clock.jump(seconds)

    async def kill_task(self) -> None:
        """A supervised task fails with an error of its own."""
        now = trio.current_time()
        self._kills = [at for at in self._kills if at > now - 60]
        if len(self._kills) >= KILLS_IN_A_ROW:
            return
        alive = sorted(self.world.kill_switches)
        if alive:
            self._kills.append(now)
            name = self.rng.choice(alive)
            self.say(f"kill the {name}")
            self.world.kill_switches[name].cancel()

    async def cut_one(self) -> None:
        self.say("cut a connection")
        self.world.network.cut_one()

    async def cut_all(self) -> None:
        self.say("cut all connections")
        self.world.network.cut_all()

    async def slow_disk(self) -> None:
        """Commits in the thread take other times from now on."""
        delays = self.rng.choice(DISK_DELAYS_S)
        self.say(f"commits take one of {delays} s")
        self.world.threads.delays_s = delays


def choose(rng: random.Random, *values: object) -> object:
    """Pick one; the first more often than the others."""
    return rng.choice([values[0], *values])
