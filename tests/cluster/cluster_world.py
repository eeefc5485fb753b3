"""A simulated cluster: brokers that lead or wait, clients that go to any of them, and the database below.

``simulate_cluster(seed, hours)`` is a whole run. As in ``tests/sim/sim_world.py`` everything random comes from the seed and time is virtual,
so that a seed gives the same log each time, byte for byte. What runs is the real server (engine, runtime, PostgreSQL store, doors, link);
replaced are sockets, threads, clocks, and the connection to PostgreSQL.
"""

import hashlib
import math
import random
import time
import traceback
from collections import Counter
from dataclasses import replace
from functools import partial

import trio
import trio.lowlevel
from trio._core import _run

from bunqueue_trio.config import Settings
from bunqueue_trio.errors import leaves
from tests.cluster.books import ClusterLedger, ClusterWorker, PatientWorker, Polls, Reader
from tests.cluster.broker import PORT, Broker, RunQueue
from tests.cluster.cluster_chaos import FOCUSES, ClusterChaos, Focus
from tests.cluster.cluster_postgres import Postgres
from tests.cluster.database import Committed, Database, Leader
from tests.cluster.leaping import LeapingClock
from tests.cluster.net import CLIENT, Net
from tests.cluster.operators import ClusterSlotBook, Sweeper
from tests.cluster.sealing import sealed
from tests.cluster.truth import Truth
from tests.sim.actors import Actor, Producer
from tests.sim.clerks import Clerk
from tests.sim.meddlers import Meddler, Operator
from tests.sim.scheduling import Planner
from tests.sim.sim_chaos import DISK_DELAYS_S, choose
from tests.sim.sim_disk import Platter, Threads
from tests.sim.sim_world import Result
from tests.sim.wire import End, Pace

START_S = 1_700_000_000.0
CALM_S_MAX = 3600
URL = "postgres://sim/queue?schema=bq"

OPERATORS: dict[str, type[Actor]] = {"planner": Planner, "clerk": Clerk, "operator": Operator, "sweeper": Sweeper}
"""Who makes schedules, and who acts on many jobs; a focus is about one fault, and has none of them unless it says so."""


class ClusterWorld:
    """One run."""

    start_s = START_S
    postgres_warm_s = 3.0
    """How long all is well at first."""

    def __init__(self, seed: int, hours: float, focus: Focus) -> None:
        self.seed = seed
        self.hours = hours
        self.focus = focus
        self.lines: list[str] = []
        self.failure: str | None = None
        rng = self.rng("world")
        self.clock = LeapingClock()
        self.hosts = [f"b{i}" for i in range(max(rng.randint(2, 3), 3 if focus.faults else 0))]
        self.queues = ["a", "b", "c"][: rng.randint(1, 3)]
        self.token = None
        self.settings = Settings(
            store=URL, lease_ms=rng.choice((20_000, 300_000)), stalls_max=rng.choice((0, 3)),
            pollers_max=choose(rng, 20_000, 4),  # type: ignore[arg-type]
            shutdown_grace_ms=rng.choice((0, 3000, 10_000)), store_lease_ms=rng.choice((5000, 10_000)),
            express=rng.random() < 0.9,
        )  # fmt: skip
        if focus.faults:
            self.settings = replace(self.settings, express=True, store_lease_ms=5000)
        self.reader_events_max = choose(rng, 10_000, 10)
        self.turn_requests = choose(rng, 64, 1, 2)
        self.slice = self.rng("slices").choice((1, 2, 5))
        self.database = Database(self.rng("database"), lambda: START_S + self.now())
        self.database.on_commit, self.database.on_take = self.note_commit, self.note_take
        self.postgres = Postgres(self.database, self.rng("postgres"), partial(self.log, "database"))
        self.truth = Truth(lambda: Platter(self.rng("platter"), self.settings), self.fail)
        self.ledger = ClusterLedger(self.truth, self.fail)
        self.net = Net(self.rng("network"), Pace(*rng.choice(((0, 0, 0), (0.1, 0.05, 0.5), (0.3, 0.2, 2.0)))))
        self.polls = Polls(self.fail, 2 + 5 * self.net.pace.delay_s)
        self.network = self
        self.threads = Threads(self.rng("threads"))
        self.threads.delays_s = focus.hops_s or rng.choice(DISK_DELAYS_S[:3])
        self.calm, self.closing, self.up = trio.Event(), trio.Event(), trio.Event()
        self.next_nonce = 0
        self.slot_book = ClusterSlotBook(self.fail)
        self.truth.on_batch.append(self.slot_book.note)
        self.committed = trio.Event()
        """Set by the next commit."""
        self.disturbances = 0
        """Raised with everything that may end a waiting pull early."""
        self.takeovers = 0
        self._gone_back_at: float | None = None
        self._disturbed_at: list[float] = []
        """When something happened to the database."""
        self._leaders: dict[tuple[int, str], str] = {}
        """Who led, by term and life."""
        self._scope = trio.CancelScope()
        self._pick = self.rng("pick")
        self.nonces = self.rng("nonces")
        self.brokers = [Broker(self, name, self._settings_of(name)) for name in self.hosts]
        for broker in self.brokers:
            broker.clocks.wall_skew_s = rng.choice((0.0, 0.0, -3600.0, 3600.0, rng.uniform(-5, 5)))
        self.chaos = ClusterChaos(self)
        self.readers = [Reader(self, f"reader-{i}") for i in range(rng.randint(1, 3))]
        self.actors: list[Actor] = [
            *(Producer(self, f"producer-{i}") for i in range(rng.randint(1, 3))),
            *(ClusterWorker(self, f"worker-{i}") for i in range(rng.randint(1, 4))),
            *(Meddler(self, f"meddler-{i}") for i in range(rng.randint(0, 1))),
            *self.readers,
        ]
        self.actors += [PatientWorker(self, f"patient-{i}") for i in range(5 * focus.patient)]
        self.actors += self._operators()

    @property
    def may_quiet_workers(self) -> bool:
        """Whether somebody tells workers to take no more, which then wait and get nothing."""
        return any(isinstance(actor, Operator) for actor in self.actors)

    def _operators(self) -> list[Actor]:
        """Return some of them: half of the seeds have each, but for worlds with a focus, which says who is there."""
        rng, focus = self.rng("operators"), self.focus
        names = focus.operators if focus.faults else [name for name in OPERATORS if rng.random() < 0.5]
        return [OPERATORS[name](self, f"{name}-0") for name in names]

    def _settings_of(self, name: str) -> Settings:
        return replace(self.settings, bind=(f"{name}:{PORT}",))

    # --- what everybody uses --------------------------------------------------------------------

    def rng(self, name: str) -> random.Random:
        """A generator for one purpose, by the seed."""
        return random.Random(f"{self.seed}/{name}")

    def now(self) -> float:
        return self.clock.current_time()

    def log(self, who: str, what: str) -> None:
        self.lines.append(f"{round(self.now() * 1000):>9} {who:<11} {what}")

    def fail(self, text: str) -> None:
        """Something is wrong. The first finding counts; it ends the run."""
        self.log("VIOLATION", text)
        if self.failure is None:
            self.failure = text
            for broker in self.brokers:
                broker.go_on()  # or it would never hear that all is over
            self._scope.cancel()

    @property
    def platter(self) -> Platter:
        return self.truth.platter

    def published(self) -> int:
        return 0

    def term(self) -> tuple[int, bool]:
        """Whether nothing has happened since that may end a waiting pull early."""
        stopping = any(broker.is_alive and broker.is_stopping for broker in self.brokers)
        return self.disturbances, stopping or not self.postgres.is_up or bool(self.net.held())

    def connect(self) -> End:
        """Return a client's end of a connection to some broker."""
        frozen = {broker.name for broker in self.brokers if broker.paused and self.focus.faults}
        up = [host for host in self.hosts if self.net.listens(host, PORT) and host not in frozen]
        if not up:
            raise ConnectionRefusedError
        return self.net.connect(CLIENT, self._pick.choice(up), PORT)

    # --- what happens to the database -----------------------------------------------------------

    def note_commit(self, batch: Committed, is_new: bool) -> None:
        self.committed.set()
        self.committed = trio.Event()
        self.log("database", f"batch {batch.number} of term {batch.term}" + ("" if is_new else ", once more"))
        self.truth.committed(batch, is_new)
        self._check_others(self._leaders[batch.term, batch.life])

    def note_take(self, before: Leader, after: Leader) -> None:
        self.log("database", f"term {after.term} is that of {after.holder}, from batch {after.batch} on")
        self.takeovers += 1
        self.disturbances += 1
        self._leaders[after.term, after.life] = after.holder
        lost = self.truth.taken(before, after)
        if lost:
            self.log("database", f"{len(lost)} batches are lost for good, from {lost[0].number} on")
            self._check_excuse(lost, before, after)
            self.ledger.forget_lost()
            self.slot_book.rewind(self.truth.told)
            for reader in self.readers:
                reader.rewind(len(self.truth.told))
        self.ledger.check_start({row[1] for row in self.database.tables["job"].values()})

    def _check_others(self, holder: str) -> None:
        """Somebody has just written: nobody else may still answer from memory, but for who led a term that the database has lost, until its lease is over."""
        gone_back_at = -math.inf if self._gone_back_at is None else self._gone_back_at
        if self.now() <= gone_back_at + self.settings.store_lease_ms / 1000:
            return
        for broker in self.brokers:
            if broker.is_sure and broker.process != holder:
                self.fail(f"{broker.process} is sure to lead, and {holder} writes")

    def note_gone_back(self) -> None:
        self._gone_back_at = self.now()
        for broker in self.brokers:
            if broker.paused or self.postgres.is_cut(broker.name):
                broker.disturb()

    def _check_excuse(self, lost: list[Committed], before: Leader, after: Leader) -> None:
        """What is lost may be lost only when its leader has died, or was kept from writing it again, soon after the database went back."""
        if self._gone_back_at is None:
            self.fail("batches are lost, and the database has not gone back")
            return
        since, until = self._gone_back_at, self._gone_back_at + self.settings.store_lease_ms / 1000
        name, _, life = self._leaders[lost[-1].term, lost[-1].life].split()
        led = next(broker for broker in self.brokers if broker.name == name)
        was_kept = led.ended_at.get(int(life), until) < until or any(since <= at < until for at in led.disturbed_at)
        # One that has let go is followed at once: who was not there before cannot know that the database has lost a later leader.
        taker = next(broker for broker in self.brokers if after.holder.startswith(f"{broker.name} "))
        is_new = before.beat == float("-inf") and taker.started_at > since - 1
        if not was_kept and not is_new and not any(since < at < until for at in self._disturbed_at):
            self.fail(f"{led.name} lived, and remembered what is lost")

    def disturb_all(self) -> None:
        self.disturbances += 1
        self._disturbed_at.append(self.now())

    # --- the run --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Both phases."""
        runner = _run.GLOBAL_RUN_CONTEXT.runner
        runner.runq = RunQueue(runner.runq)
        with self._scope:
            async with trio.open_nursery() as nursery:
                self.postgres.nursery = nursery
                for broker in self.brokers:
                    nursery.start_soon(broker.run)
                nursery.start_soon(self.chaos.run)
                for actor in self.actors:
                    nursery.start_soon(self._act, actor)
                await trio.sleep(self.hours * 3600)
                self.log("world", "calm begins")
                self.calm.set()
                await trio.lowlevel.checkpoint()
                await self.wait_end()
                await self.check_end()
                self.log("world", "all is well")
                self._scope.cancel()

    async def _act(self, actor: Actor) -> None:
        if self.focus.quiet and isinstance(actor, ClusterWorker):
            await self.calm.wait()
        await actor.run()

    def _is_done(self) -> bool:
        leader = next((broker.server for broker in self.brokers if broker.server is not None), None)
        return (
            leader is not None
            and not self.database.tables["job"]
            and not leader.engine.jobs
            # What is retried, by its queue itself or some a second, would still come.
            and not leader.engine.auto_retries
            and not leader.engine.reruns.under_way()
            and not leader.journal.dirty
        )

    async def wait_end(self) -> None:
        """Wait until all jobs have ended."""
        with trio.move_on_after(CALM_S_MAX) as patience:
            await trio.sleep(5)
            while not self._is_done():  # noqa: ASYNC110 - it takes several tables to know
                await trio.sleep(5)
        if patience.cancelled_caught:
            left = [(row[1], row[8]) for row in self.database.tables["job"].values()]
            leads = [broker.name for broker in self.brokers if broker.server is not None]
            self.fail(f"jobs do not come to their end; {leads} lead, and there are {left[:10]}")

    async def check_end(self) -> None:
        """Everybody has heard everything, and nothing is left."""
        for reader in self.readers:
            with trio.move_on_after(600):
                while not reader.caught_up():  # noqa: ASYNC110 - nobody tells
                    await trio.sleep(1)
            if not reader.caught_up():
                self.fail(
                    f"{reader.name} has not heard all there was: it is at {reader.place} of {len(self.truth.told)}"
                )
        self.closing.set()
        self.ledger.check_start(set())
        self.slot_book.check()
        self._check_counts()

    def _check_counts(self) -> None:
        """What the leader has counted along is what is there."""
        leader = next((broker.server for broker in self.brokers if broker.server is not None), None)
        if leader is not None:
            there = Counter((row[2], row[3]) for row in self.database.records())
            counted = {which: n for which, n in leader.store.finished_counts.items() if n}
            if counted != dict(there):
                self.fail(f"the leader has counted {counted}, and kept is {dict(there)}")


def simulate_cluster(seed: int, hours: float, focus: Focus = FOCUSES[""]) -> Result:
    """Run the cluster of ``seed`` for ``hours`` virtual hours of trouble, and then until all is calm."""
    world = ClusterWorld(seed, hours, focus)
    begun = time.perf_counter()
    with sealed(world):
        try:
            trio.run(world.run, clock=world.clock)
        except BaseException as error:  # noqa: ASYNC103 - around a run of its own, in which nobody awaits
            if isinstance(error, KeyboardInterrupt):
                raise
            leaf = leaves(error)[0]
            world.fail("".join(traceback.format_exception(leaf)[-8:]))
    digest = hashlib.sha256("\n".join(world.lines).encode()).hexdigest()
    counts = Counter(
        lives=sum(broker.lives for broker in world.brokers), terms=world.takeovers, pushes=len(world.ledger.pushed),
        deliveries=world.ledger.deliveries, acks=world.ledger.acked, answers=world.ledger.answers,
        commits=len(world.truth.batches), lost=len(world.truth.lost), heard=sum(reader.seen for reader in world.readers),
    )  # fmt: skip
    virtual_s = world.clock.current_time()
    return Result(seed, hours, digest, world.failure, virtual_s, time.perf_counter() - begun, dict(counts), world.lines)
