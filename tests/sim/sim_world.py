"""The simulated world: one server after the other on one disk, everybody who uses it, and what must hold.

``simulate(seed, hours)`` is a whole run. Everything random comes from the seed, time is Trio's mock clock, and no
thread, socket or file is used, so that a seed gives the same log each time, byte for byte.

The first phase has faults; whatever happens, nothing wrong may come of it. In the second phase, the calm, there
are no faults and nobody misbehaves: everything must come to its end, and leave nothing behind.
"""

import gc
import hashlib
import random
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

import trio
import trio.testing
from trio._core import _run
from websockets.protocol import State

from bunqueue_trio.api.session import Session
from bunqueue_trio.config import Settings
from bunqueue_trio.engine.job import Job
from bunqueue_trio.runtime import clock, tree
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.supervisor import Child
from bunqueue_trio.runtime.tree import serve
from bunqueue_trio.transports import slow_lane  # noqa: F401 - else a thread reads it, which virtual time does not wait for
from bunqueue_trio.transports.listener import Http
from bunqueue_trio.transports.websocket import WebSocket
from tests.engine.checks import check_empty
from tests.sim.actors import Actor, Nomad, Producer, Worker
from tests.sim.clerks import Clerk
from tests.sim.lockstep import Lockstep, what_was_asserted
from tests.sim.meddlers import Meddler, Operator
from tests.sim.scheduling import Planner, SlotBook
from tests.sim.sim_chaos import DISK_DELAYS_S, Chaos, TaskKilled, choose
from tests.sim.sim_disk import Platter, SimStore, Threads
from tests.sim.sim_ledger import Ledger
from tests.sim.sim_sealing import leaves_of, objects_of_connections, sealed
from tests.sim.watchers import SocketWatcher, StreamWatcher
from tests.sim.wire import Listener, Network, Pace, Poller
from tests.storage.faulty import Crash, Fault

START_MS = 1_700_000_000_000

CALM_S_MAX = 3600  # virtual time in which everything must have ended; the longest wait of any job is 20 minutes

_run_websocket = WebSocket.run


@dataclass
class Result:
    """How a run ended. ``digest`` is the SHA-256 of its log."""

    seed: int
    hours: float
    digest: str
    failure: str | None
    virtual_s: float
    real_s: float
    counts: dict[str, int]
    log: list[str] = field(repr=False, default_factory=list)


class World(trio.abc.Instrument):
    """One run. It is an instrument to look at the server whenever everybody waits."""

    def __init__(self, seed: int, hours: float, crash: tuple[int, Fault] | None = None) -> None:
        self.seed = seed
        self.hours = hours
        self.crash = crash
        self.lines: list[str] = []
        self.failure: str | None = None
        rng = self.rng("world")
        self.settings = Settings(
            lease_ms=rng.choice((20_000, 300_000)),
            stalls_max=rng.choice((0, 3)),
            retention_completed_max=choose(rng, 100_000, 5),  # type: ignore[arg-type]
            retention_dead_max=choose(rng, 100_000, 5),  # type: ignore[arg-type]
            retention_events_max=choose(rng, 100_000, 50),  # type: ignore[arg-type]
            pending_max=choose(rng, 50_000, 4),  # type: ignore[arg-type]
            pollers_max=choose(rng, 20_000, 2),  # type: ignore[arg-type]
            rate_limit_max_requests=choose(rng, None, None, 60),  # type: ignore[arg-type]
            shutdown_grace_ms=rng.choice((0, 3000, 10_000)),
            auth_tokens=rng.choice(((), ("secret",))),
            retention_events_age_ms=24 * 3600 * 1000,
        )
        self.reader_events_max = choose(rng, 10_000, 10)
        self.inline = rng.random() < 0.3
        self.lone_requests, self.turn_requests = choose(rng, 2, 0, 16), choose(rng, 64, 1, 2)
        self.bulk_slice = choose(self.rng("bulk"), 500, 1, 2)
        self.queues = ["a", "b", "c"][: rng.randint(1, 3)]
        self.token = self.settings.auth_tokens[0] if self.settings.auth_tokens else None
        self.platter = Platter(self.rng("load"), self.settings)
        self.ledger = Ledger(self.platter, self.fail)
        self.slot_book = SlotBook(self.fail)
        self.platter.on_batch.append(self.slot_book.note)
        self.lockstep = Lockstep(self.settings, self.platter, self.fail)
        self.lockstep.on_load = self.ledger.check_start
        pace = Pace(*rng.choice(((0, 0, 0), (0.1, 0.05, 0.5), (0.5, 0.3, 3.0))))
        self.network = Network(self.rng("network"), pace)
        self.threads = Threads(self.rng("threads"))
        self.threads.delays_s = rng.choice(DISK_DELAYS_S)
        self.clock = trio.testing.MockClock(autojump_threshold=0)
        self.wall_skew_ms = 0
        self.calm, self.closing, self.up = trio.Event(), trio.Event(), trio.Event()
        self.next_nonce = 0
        self.server: Server | None = None
        self.store: SimStore | None = None
        self.http: Http | None = None
        self.poller = Poller()
        self.kill_switches: dict[str, trio.CancelScope] = {}
        self.lives = 0
        self._life, self._scope = trio.CancelScope(), trio.CancelScope()
        self._ids = count(1)
        self._first_token = ""
        """No lease of the server that runs has a smaller one, unless it was loaded."""
        self._down_rng = self.rng("down")
        self._checked = -1
        self.chaos = Chaos(self)
        self.actors: list[Actor] = [
            *(Producer(self, f"producer-{i}") for i in range(rng.randint(1, 3))),
            *(Worker(self, f"worker-{i}") for i in range(rng.randint(1, 4))),
            *(StreamWatcher(self, f"stream-{i}") for i in range(rng.randint(1, 2))),
            *(SocketWatcher(self, f"socket-{i}") for i in range(rng.randint(0, 2))),
            *(Meddler(self, f"meddler-{i}") for i in range(rng.randint(0, 1))),
            *(Operator(self, f"operator-{i}") for i in range(rng.randint(0, 1))),
            *(Planner(self, f"planner-{i}") for i in range(rng.randint(0, 1))),
            Clerk(self, "clerk-0"),
            *(Nomad(self, f"nomad-{i}") for i in range(self.rng("who wanders").randint(0, 1))),
        ]

    # --- what everybody uses --------------------------------------------------------------------------

    def rng(self, name: str) -> random.Random:
        """A generator for one purpose, by the seed."""
        return random.Random(f"{self.seed}/{name}")

    def log(self, who: str, what: str) -> None:
        self.lines.append(f"{round(self.clock.current_time() * 1000):>9} {who:<11} {what}")

    def fail(self, text: str) -> None:
        """Something is wrong. The first finding counts; it ends the run."""
        self.log("VIOLATION", text)
        if self.failure is None:
            self.failure = text
            self._scope.cancel()

    def published(self) -> int:
        """The id of the newest event that the server has told."""
        return 0 if self.server is None else self.server.hub.last_event_id

    def term(self) -> tuple[int, bool]:
        """Which server it is that runs, and whether it is about to stop."""
        return self.lives, self.server is None or self.server.stop.is_set()

    def wall_s(self) -> float:
        """What the wall clock of the machine says."""
        return (START_MS + self.wall_skew_ms) / 1000 + self.clock.current_time()

    # --- the server -----------------------------------------------------------------------------------

    async def keep_alive(self) -> None:
        """Start the server again and again, as whatever supervises it would."""
        while True:
            await self.live()
            self.server = self.store = None
            self.kill_switches.clear()
            await trio.lowlevel.checkpoint_if_cancelled()  # a crash in the last moment may have hidden it
            if not self.closing.is_set():
                await trio.sleep(self._down_rng.choice((0, 0.5, 20)) if not self.calm.is_set() else 1)

    async def live(self) -> None:
        """One process, from its start to its end."""
        self.lives += 1
        self._first_token = self._new_id(0)
        self.store = SimStore(self.platter, self.chaos.of_commits(), self.chaos.of_upkeep(), partial(self.die, "crash"))
        self.store.inline = self.inline
        self.server = server = Server(self.settings, self.store, clock.Clock(), self._new_id)
        self.store.lock = server.journal.disk
        self.lockstep.attach(server)
        for child in server.tasks:
            child.run = self._mortal(child)
        self.network.listener = listener = Listener()
        self.http = None

        async def transport(_: Server, *, task_status: trio.TaskStatus[list[str]]) -> None:  # noqa: ASYNC128
            gc.disable()  # `serve` has switched it on; its moments are not the seed's
            self.log("server", f"is up, with {len(server.engine.jobs)} jobs")
            self.up.set()
            async with trio.open_nursery() as connections:
                self.poller = Poller()
                self.http = Http(server, connections, express=True, make_poller=lambda: self.poller)
                self.http.loop.run = self._mortal(self.http.loop)
                await self.http.run([listener], partial(task_status.started, ["memory"]))

        outcome = "stopped"
        self._life = trio.CancelScope()
        try:
            with self._life:
                await serve(server, [transport])
        except BaseExceptionGroup as group:
            outcome = self._judge(group)
        except (Exception, Crash) as error:  # a crash in the very last commit comes alone
            outcome = self._judge(error)
        if outcome == "stopped":
            self.lockstep.check_stopped()
        self.die(outcome)
        self.store.restart()

    def die(self, how: str) -> None:
        """The process ends this instant: nothing that it still does can be seen from outside."""
        if self.server is not None and self.network.listener is not None:
            self.log("server", f"is down: {how}")
            assert self.store is not None
            self.store.dead = True
            self.lockstep.detach()
            self.network.lose_server()
            self._life.cancel()

    def _judge(self, error: BaseException) -> str:
        """Return what ended the server, if that may be."""
        leaves = list(leaves_of(error))
        if all(isinstance(leaf, Crash | trio.Cancelled) for leaf in leaves):
            return "crash"
        names = ", ".join(f"{type(leaf).__name__}: {leaf}" for leaf in leaves)
        gave_up = all(isinstance(leaf, Crash | trio.Cancelled | tree.StoreError) for leaf in leaves)
        if not gave_up or self.calm.is_set():
            self.fail(f"the server ended: {names}\n" + "".join(traceback.format_exception(leaves[0])[-12:]))
        return names

    def _mortal(self, child: Child) -> Callable[[], Any]:
        run, name = child.run, child.name

        async def mortal() -> None:
            with trio.CancelScope() as switch:
                self.kill_switches[name] = switch
                try:
                    await run()
                finally:
                    if self.kill_switches.get(name) is switch:
                        del self.kill_switches[name]
            if switch.cancelled_caught:
                raise TaskKilled(name)

        return mortal

    def _new_id(self, now: int) -> str:
        return f"id-{next(self._ids):06}"

    async def run_websocket(self, websocket: WebSocket, session: Session) -> None:
        """Stands for the server's talk with one peer: at its end, note what the network knows of that end."""
        try:
            await _run_websocket(websocket, session)
        finally:
            peer = websocket._wire._stream.other  # type: ignore[attr-defined]
            # A goodbye may have been lost on its way; that it has come only the server can know.
            came = websocket._protocol.close_rcvd is not None
            self.lockstep.goodbyes[session.id] = peer.goodbye and came

    # --- what must hold -------------------------------------------------------------------------------

    def before_io_wait(self, timeout: float) -> None:
        try:
            self._check_waits()
        except Exception:  # Trio would log it and go on without its instrument
            self.fail(traceback.format_exc())

    def _check_waits(self) -> None:
        """Everybody waits for something: nobody may wait for what is there."""
        server = self.server
        if server is None or self._life.cancel_called or self.failure is not None:
            return
        if _run.GLOBAL_RUN_CONTEXT.runner.runq:
            return  # somebody goes on at once
        for queue, line in server.core.waiting.lines.items():
            if line and self.lockstep.model.offered(queue):
                self.fail(f"a waiting pull waits at {queue!r}, where a job is ready")
        for connection in self.http._connections if self.http else ():
            websocket = connection.express.websocket if connection.express else None
            if websocket is not None and _keeps_a_reply_back(websocket, server):
                self.fail("a reply waits in a WebSocket's line, and nothing is in its way")
        if self.poller.waits and (ready := self.poller.left_out()):
            self.fail(f"the hot loop waits, and these connections have something for it: {ready}")
        writing = server.journal.dirty and server.journal.failing is None and not server.journal.summons.lingers
        if writing and not server.journal.disk.locked() and self._flusher_sleeps(server):
            self.fail("changes wait for the disk, and the flusher sleeps")
        if self.lockstep.steps != self._checked:
            self._checked = self.lockstep.steps
            self._check_jobs(server)

    def _check_jobs(self, server: Server) -> None:
        due = server.engine.next_due()
        if due is not None and due < server.clock.now() - 1 and self._alarms_sleep(server):
            self.fail(f"a deadline of {server.clock.now() - due} ms ago has not happened")
        if not server.journal.dirty and (lost := self._lost_deliveries(server)):
            self.fail(f"these jobs are active, and nobody knows of it: {lost}")

    def _lost_deliveries(self, server: Server) -> list[str]:
        """Return the jobs that were taken by a pull whose answer nobody is about to send."""
        leases = [(job.id, job.lease) for job in server.engine.jobs.values() if job.lease is not None]
        return [
            job_id
            for job_id, lease in leases
            if lease.owner is None and lease.token > self._first_token and lease.token not in self.network.told
        ]

    def _flusher_sleeps(self, server: Server) -> bool:
        return server.flusher.state == "running" and "persistence flusher" in self.kill_switches

    def _alarms_sleep(self, server: Server) -> bool:
        return {"scheduler", "stall detector"} <= set(self.kill_switches)

    def _is_done(self) -> bool:
        server = self.server
        # What is retried, by its queue itself or some a second, would still come.
        brings = server is None or server.engine.jobs or server.engine.auto_retries or server.engine.reruns.under_way()
        return server is not None and not brings and not server.journal.dirty

    async def wait_end(self) -> None:
        """Wait until all jobs have ended.

        Fails the run when they do not.
        """
        with trio.move_on_after(CALM_S_MAX) as patience:
            await trio.sleep(5)  # a push that its producer takes for lost may still be on its way
            while not self._is_done():  # noqa: ASYNC110 - it takes several tables to know
                await trio.sleep(5)
        if patience.cancelled_caught:
            jobs = [] if self.server is None else [(j.id, j.state, j.due) for j in self.server.engine.jobs.values()]
            self.fail(f"jobs do not come to their end: {jobs[:10]}")

    async def check_end(self) -> None:
        """Nothing is left of anything."""
        server = self.server
        assert server is not None
        watchers = [a for a in self.actors if isinstance(a, StreamWatcher | SocketWatcher)]
        for watcher in watchers:
            with trio.move_on_after(600):
                while not watcher.caught_up():  # noqa: ASYNC110 - nobody tells
                    await trio.sleep(1)
            if not watcher.caught_up():
                self.fail(f"{watcher.name} has not heard all there was: {len(self.platter.events)} events")
        self.closing.set()
        self.network.cut_all()
        await trio.sleep(150)  # longer than any keep-alive, window or pause
        self.lockstep.check(("the end",))
        self.lockstep.check_records()
        self.slot_book.check()
        self._check_kept(server)
        try:
            check_empty(server.engine)
        except AssertionError as error:
            self.fail(f"left behind in the engine: {what_was_asserted(error)}")
        left = {
            "waiters": len(server.core.waiting.lines), "pollers": server.core.pulls_waiting, "readers": len(server.hub),
            "bells": len(server.journal._bells), "connections": len(self.http._connections) if self.http else 0,
            "rate limits": len(server.limiter), "sockets": server.connections.ws, "streams": server.connections.sse,
            "unwritten": server.journal.pending,
        }  # fmt: skip
        left |= objects_of_connections()
        if any(left.values()):
            self.fail(f"left behind: { {name: n for name, n in left.items() if n} }")

    def _check_kept(self, server: Server) -> None:
        """Long after the last change: retention has done its work, the counts agree, and every task lives."""
        settings, found = self.settings, Counter(_kept_as(job) for job in self.platter.kept().values())
        limits = {
            "completed": settings.retention_completed_max,
            "removed": settings.retention_completed_max,
            "failed": settings.retention_dead_max,
        }
        if (
            any(n > limits[state] for state, n in found.items())
            or self.platter.kept_events() > settings.retention_events_max
        ):
            self.fail(f"more is kept than should be: {dict(found)}, {self.platter.kept_events()} events")
        told = {state: n for state, n in server.counts().items() if n}
        if told != {state: n for state, n in found.items() if n}:
            self.fail(f"counted are {told}, kept {dict(found)}")
        if ill := [
            task.name for task in server.tasks if task.state != "running" or task.name not in self.kill_switches
        ]:
            self.fail(f"these tasks do not run: {ill}")

    async def run(self) -> None:
        """Both phases."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.keep_alive)
                await self.up.wait()
                nursery.start_soon(self.chaos.run)
                for actor in self.actors:
                    nursery.start_soon(actor.run)
                await trio.sleep(self.hours * 3600)
                self.log("world", "calm begins")
                self.calm.set()
                if self.store is not None:
                    self.store.blind = False
                self.chaos.outage_s = 0
                self.threads.delays_s = (0.0,)
                await self.wait_end()
                await self.check_end()
                self.log("world", "all is well")
                self._scope.cancel()


def _kept_as(job: Job) -> str:
    return "removed" if job.options.remove_on_complete and job.state == "completed" else job.state.value


def _keeps_a_reply_back(websocket: WebSocket, server: Server) -> bool:
    """Return whether a reply that may be sent is waiting for a client that reads, and nobody sends it."""
    session = websocket._session
    if session is None or not session._replies or websocket._protocol.state is not State.OPEN:
        return False
    is_sending = websocket._write_deadline != float("inf")
    return session._replies[0].epoch <= server.journal.committed and not is_sending


def simulate(seed: int, hours: float, crash: tuple[int, Fault] | None = None) -> Result:
    """Run the world of ``seed`` for ``hours`` virtual hours of trouble, and then until all is calm.

    ``crash`` is one more fault: what happens to the commit of that number.
    """
    world = World(seed, hours, crash)
    begun = time.perf_counter()
    with sealed(world):
        try:
            trio.run(world.run, clock=world.clock, instruments=[world])
        except BaseException as error:  # noqa: ASYNC103 - around a run of its own, in which nobody awaits
            if isinstance(error, KeyboardInterrupt):
                raise
            leaf = next(leaves_of(error))
            world.fail("".join(traceback.format_exception(leaf)[-8:]))
    digest = hashlib.sha256("\n".join(world.lines).encode()).hexdigest()
    counts = Counter(
        lives=world.lives, pushes=len(world.ledger.pushed), deliveries=world.ledger.deliveries,
        acks=world.ledger.acked, events=len(world.platter.events), steps=world.lockstep.steps,
        answers=world.ledger.answers, commits=world.chaos.commits,
    )  # fmt: skip
    virtual_s = world.clock.current_time()
    return Result(seed, hours, digest, world.failure, virtual_s, time.perf_counter() - begun, dict(counts), world.lines)
