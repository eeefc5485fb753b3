"""What goes wrong with a cluster: dead, paused and stopped brokers, ways that are cut or held, a database that breaks or goes back.

Each seed likes some faults more than others and leaves some out. All of it ends with the first phase.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import trio

from tests.cluster.cluster_postgres import LATENCIES_S, Risks
from tests.cluster.net import CLIENT

if TYPE_CHECKING:
    from tests.cluster.broker import Broker
    from tests.cluster.cluster_world import ClusterWorld


class Focus(NamedTuple):
    """What a run is about, where chance alone brings it too seldom: these faults, by their weights, and nothing else goes wrong."""

    faults: dict[str, int]
    every_s: float
    lag_s: float = 0.0
    hours: float = 1.0
    quiet: bool = False
    """Nobody works before the calm, so that there is seldom something to write."""
    patient: bool = False
    """Many wait long for the jobs of one queue, which come seldom."""
    operators: tuple[str, ...] = ()
    """Who makes schedules, and acts on many jobs."""
    hops_s: tuple[float, ...] = ()
    """How long what is done in a thread takes, one of these: between a look at who leads and what follows from it much may happen."""


FOCUSES: dict[str, Focus] = {
    "": Focus({}, 0, hours=0.1),
    "losses": Focus({"go_back": 1}, 60, lag_s=4.0),
    "sleepers": Focus({"lose_quietly": 1}, 20, lag_s=4.0, hours=0.2, quiet=True),
    "deaths": Focus({"kill_after_commit": 1}, 20, hours=0.2),
    "cuts": Focus({"cut_database": 1}, 20),
    "freezes": Focus({"freeze": 1}, 60),
    "clocks": Focus({"set_back": 1}, 20),
    "overtaken": Focus({"overtake": 1}, 30, hours=0.1),
    "lines": Focus({"latency": 1}, 60, hours=0.2, patient=True),
    "races": Focus({"kill": 1}, 20, hours=0.2, hops_s=(0.0, 0.3, 1.0)),
    "schedules": Focus({"kill_after_commit": 1}, 10, hours=0.1, operators=("planner",)),
}
"""By their names; the first one is what the seed alone says."""


class ClusterChaos:
    """Draws one fault after the other."""

    def __init__(self, world: "ClusterWorld") -> None:
        self._world = world
        self._rng = rng = world.rng("chaos")
        self._faults: list[Callable[[], Awaitable[None]]] = [
            self.kill, self.kill_silently, self.stop, self.pause, self.break_sessions, self.outage, self.cut_database,
            self.part, self.cut_connections, self.step_clock, self.latency, self.go_back,
        ]  # fmt: skip
        self._weights = [rng.choice((0, 1, 1, 3)) for _ in self._faults]
        self._every_s = rng.choice((10, 30, 90))
        rare = rng.choice((0, 0, 0.001, 0.005))
        self._risks = Risks(*(rare * rng.choice((0, 1, 3)) for _ in Risks._fields))
        self.lag_s = rng.choice((0.0, 0.5, 3.0, 4.0))
        """How far the replica of the database is behind; 0: it is synchronous."""
        focus = world.focus
        if focus.faults:
            self._faults = [getattr(self, name) for name in focus.faults]
            self._weights = [*focus.faults.values()]
            self._every_s, self._risks, self.lag_s = focus.every_s, Risks(), focus.lag_s

    def say(self, what: str) -> None:
        self._world.log("chaos", what)

    @property
    def _calm(self) -> trio.Event:
        return self._world.calm

    async def run(self) -> None:
        """Make trouble until the calm begins."""
        world = self._world
        world.database.disk.lag_s = self.lag_s
        world.postgres.risks = self._risks
        await self._while_troubled(world.postgres_warm_s)
        async with trio.open_nursery() as nursery:
            while not self._calm.is_set():
                await self._while_troubled(self._rng.expovariate(1 / self._every_s))
                if any(self._weights) and not self._calm.is_set():
                    # Several at a time: a leader that is paused while the database fails over is what hurts.
                    nursery.start_soon(self._rng.choices(self._faults, self._weights)[0])
        world.postgres.risks = Risks()
        world.postgres.latencies_s = (0.0,)

    async def _while_troubled(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await self._calm.wait()

    def _victim(self) -> "Broker":
        """Return a broker, the leader more often than the others."""
        brokers = self._world.brokers
        leader = next((broker for broker in brokers if broker.server is not None), None)
        return leader if leader is not None and self._rng.random() < 0.6 else self._rng.choice(brokers)

    # --- brokers --------------------------------------------------------------------------------

    async def kill(self) -> None:
        """SIGKILL: the kernel ends its connections."""
        await trio.lowlevel.checkpoint()
        self._victim().end("killed")

    async def kill_after_commit(self) -> None:
        """The same to the leader, between its next commit and the answers to that."""
        await self._commit()
        self._victim().end("killed after a commit")

    async def _commit(self) -> None:
        """Wait for the next one."""
        await self._world.committed.wait()

    async def kill_silently(self) -> None:
        """The power of a machine fails: whoever is connected to it hears nothing before it is up again."""
        await trio.lowlevel.checkpoint()
        self._victim().end("its machine is gone", silently=True)

    async def stop(self) -> None:
        """SIGTERM."""
        await trio.lowlevel.checkpoint()
        victim = self._victim()
        self.say(f"stop {victim.name}")
        victim.stop()

    async def pause(self) -> None:
        """SIGSTOP and SIGCONT, through its lease or not."""
        await trio.lowlevel.checkpoint()
        victim, seconds = self._victim(), self._rng.choice((0.2, 3, 9.9, 10.5, 12, 40))
        if victim.paused or not victim.is_alive:
            return
        self.say(f"{victim.name} stands still for {seconds} s")
        victim.pause()
        lives = victim.lives
        try:
            await self._while_troubled(seconds)
        finally:
            if victim.paused and victim.lives == lives:
                self.say(f"{victim.name} goes on")
                victim.go_on()

    async def freeze(self) -> None:
        """A machine stands still, for longer than anybody waits for an answer; its own clients leave it at once."""
        await trio.lowlevel.checkpoint()
        victim, net = self._victim(), self._world.net
        if victim.server is None or any(broker.paused for broker in self._world.brokers):
            return
        self.say(f"{victim.name} is frozen")
        victim.pause()
        net.cut(victim.name, other=CLIENT)
        lives = victim.lives
        await self._while_troubled(2000)
        if victim.paused and victim.lives == lives:
            self.say(f"{victim.name} thaws")
            victim.go_on()

    async def step_clock(self) -> None:
        """Somebody sets the wall clock of a machine: whoever starts there next reads it."""
        await trio.lowlevel.checkpoint()
        victim, step_s = self._rng.choice(self._world.brokers), self._rng.choice((-600, -1, 1, 600))
        self.say(f"the wall clock of {victim.name} steps by {step_s} s")
        victim.clocks.wall_skew_s += step_s

    # --- ways -----------------------------------------------------------------------------------

    async def cut_connections(self) -> None:
        await trio.lowlevel.checkpoint()
        host = self._rng.choice((*self._world.hosts, CLIENT))
        self.say(f"connections of {host} are cut")
        # A door asks once more, and stands at the end of the line then.
        self._world.disturbances += 1
        self._world.net.cut(host, self._rng.choice((0.2, 1.0)))

    async def part(self) -> None:
        """Two machines do not reach each other, or one does not reach the other."""
        await trio.lowlevel.checkpoint()
        rng, net, hosts = self._rng, self._world.net, self._world.hosts
        one, other = rng.sample((*hosts, CLIENT), 2)
        seconds, both = rng.choice((0.5, 5, 20, 30)), rng.random() < 0.7
        if net.held():
            return
        self.say(f"nothing gets from {one} to {other} for {seconds} s" + (", nor back" if both else ""))
        self._world.disturbances += 1
        ways = [(one, other), (other, one)][: 2 if both else 1]
        for way in ways:
            net.hold(*way)
        await self._while_troubled(seconds)
        for way in ways:
            net.let_go(*way)
        self._world.disturbances += 1

    # --- the database ---------------------------------------------------------------------------

    async def break_sessions(self) -> None:
        await trio.lowlevel.checkpoint()
        self.say("database: ends all sessions")
        self._world.postgres.end_sessions()

    async def outage(self) -> None:
        """It is restarted, or away for a while."""
        await self._away(self._rng.choice((0.0, 0.5, 5, 15, 40)))

    async def _away(self, seconds: float, *, goes_back: bool = False) -> None:
        await trio.lowlevel.checkpoint()
        world, postgres = self._world, self._world.postgres
        if not postgres.is_up:
            return
        self.say(f"database: away for {seconds} s")
        world.disturb_all()
        postgres.go_down()
        await self._while_troubled(seconds)
        lost = 0
        if goes_back:
            lost = world.database.go_back()
            self.say(f"database: its replica leads now, without {lost} transactions")
        world.disturb_all()
        postgres.come_up()
        if lost:
            world.note_gone_back()

    async def go_back(self) -> None:
        """The primary dies, and its replica, which is behind, takes its place; the leader may die with it."""
        if self._rng.random() < 0.4:
            for broker in self._world.brokers:
                if broker.server is not None:
                    broker.end("killed with the database")
        await self._away(self._rng.choice((0.0, 0.5, 5)), goes_back=True)

    async def lose_quietly(self) -> None:
        """The database loses what was just committed; the leader has nothing else to write, the time to notice, and dies then."""
        world = self._world
        await self._commit()
        await self._away(0.0, goes_back=True)
        await self._while_troubled(world.settings.store_lease_ms / 1000 + 3)
        for broker in world.brokers:
            if broker.server is not None:
                broker.end("killed")

    async def cut_database(self) -> None:
        """One broker does not reach the database, and hears so or not."""
        await trio.lowlevel.checkpoint()
        await self._cut_off(self._victim())

    async def set_back(self) -> None:
        """The same, and somebody has set its wall clock back."""
        await trio.lowlevel.checkpoint()
        victim = self._victim()
        self.say(f"the wall clock of {victim.name} is set back")
        victim.clocks.wall_skew_s -= 600
        await self._cut_off(victim)

    async def _cut_off(self, victim: "Broker") -> None:
        postgres, rng = self._world.postgres, self._rng
        seconds, hears = rng.choice((1, 8, 11, 30)), rng.random() < 0.5
        if postgres.is_cut(victim.name):
            return
        self.say(
            f"{victim.name} does not reach the database for {seconds} s, and {'hears' if hears else 'does not hear'} so"
        )
        victim.disturb()
        (postgres.refuse if hears else postgres.hold)(victim.name)
        await self._while_troubled(seconds)
        postgres.let_go(victim.name)
        victim.disturb()

    async def overtake(self) -> None:
        """A commit of the leader is on its way for longer than its lease, and comes as another one takes over: just before that, or just after."""
        await trio.lowlevel.checkpoint()
        postgres, database, victim = self._world.postgres, self._world.database, self._victim()
        if postgres.is_cut(victim.name):
            return
        when = self._rng.choice(("before_take", "after_take"))
        self.say(f"the next commit of {victim.name} comes in the moment of a takeover: {when}")
        victim.disturb()
        postgres.catches = victim.name
        setattr(database, when, partial(postgres.arrive, victim.name))
        await self._while_troubled(20)
        database.before_take = database.after_take = lambda: None
        postgres.catches = None
        postgres.let_go(victim.name)
        victim.disturb()

    async def latency(self) -> None:
        await trio.lowlevel.checkpoint()
        self._world.postgres.latencies_s = self._rng.choice(LATENCIES_S)
        self.say(f"database: is one of {self._world.postgres.latencies_s} s away")
