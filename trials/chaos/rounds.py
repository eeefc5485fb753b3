"""The rounds of the chaos trial: something happens to the cluster under load, all recovers, and the books are compared with the database."""

import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import trio

from bunqueue_trio.testing.process import ServerProcess
from trials.chaos.clients import Books, Crowd
from trials.chaos.cluster import Cluster
from trials.lib.servers import BenchError

LOAD_S = 0.6  # before and after, at most: some hundred changes
RECOVERED = 40
"""Answered pushes after which all is as before."""
RECOVERS_WITHIN_S = 120.0  # for what hangs
SUSPENDED_S = 8.0  # at most
HEARD_WITHIN_S = 60.0
LOOK_S = 0.1
BEHIND_S = 0.5
CUTS = 5
BREAKS = 10


@dataclass(frozen=True)
class Round:
    """How one went."""

    number: int
    kind: str
    answered: int
    """Pushes and acks."""
    failed: int
    pause_s: float
    terms: int
    """How often another server began to lead."""
    breaches: list[str]

    def __str__(self) -> str:
        """Give its line of the report."""
        verdict = f"{len(self.breaches)} BREACHES" if self.breaches else "ok"
        return (
            f"{self.number:>4} {self.kind:<9} {self.answered:>6} answered changes, {self.failed:>4} without, "
            f"pause {self.pause_s:5.2f} s, {self.terms} takeovers; {verdict}"
        )


class Trial:
    """A cluster, its clients, and what is done to them."""

    def __init__(self, cluster: Cluster, crowd: Crowd, rng: random.Random) -> None:
        self.cluster = cluster
        self.crowd = crowd
        self.kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "kill": self._kill, "suspend": self._suspend, "door": self._kill_door, "backends": self._end_backends,
            "crash": self._crash, "cut": self._cut, "promote": self._promote, "rolling": self._restart_all,
        }  # fmt: skip
        self._rng = rng

    async def supervise(self) -> None:
        """Start again whoever has ended, for whatever reason."""
        while True:
            await trio.to_thread.run_sync(self.cluster.start_missing)
            await trio.sleep(LOOK_S)

    async def rounds(self, kinds: list[str], waiting: int = 0) -> AsyncIterator[Round]:
        """Do them one after the other, while as many jobs as ``waiting`` wait in another queue: each new leader reads them."""
        for server in self.cluster.servers:
            while not await trio.to_thread.run_sync(server.is_ready):  # noqa: ASYNC110 - another process is
                await trio.sleep(LOOK_S)
        await self.crowd.hears.wait()
        await self.crowd.fill(waiting)
        for number, kind in enumerate(kinds, 1):
            books = self.crowd.begin(f"round-{number}")
            if not await self.crowd.wait_answered(RECOVERED, RECOVERS_WITHIN_S):
                raise BenchError(f"nothing is answered any more: {books.told}")
            await trio.sleep(self._rng.uniform(0, LOAD_S))
            books.longest_s, before, term = 0.0, books.failed, await self._term()
            await self.kinds[kind]()
            recovered = await self.crowd.wait_answered(RECOVERED, RECOVERS_WITHIN_S)
            failed = books.failed - before
            await trio.sleep(self._rng.uniform(0, LOAD_S))
            await self.crowd.rest()
            breaches = [] if recovered else [f"it has not recovered: {books.told}"]
            terms = await self._term() - term
            # A leader that gets no time of a processor for as long as its lease is replaced as one that sleeps.
            if kind == "rolling" and failed and terms <= 1:
                breaches.append(f"{failed} requests were not answered with 200: {books.told}")
            if kind != "promote" or not terms:
                breaches += await self._check(books)
            yield Round(number, kind, len(books.pushed) + len(books.acked), failed, books.longest_s, terms, breaches)

    # --- what happens ---------------------------------------------------------------------------

    async def _leader(self) -> ServerProcess:
        with trio.move_on_after(RECOVERS_WITHIN_S):
            while True:
                leader = await trio.to_thread.run_sync(self.cluster.leader)
                if leader is not None:
                    return leader
                await trio.sleep(LOOK_S)
        raise BenchError("nobody leads")

    async def _doors(self) -> list[ServerProcess]:
        leader = await self._leader()
        return [server for server in self.cluster.servers if server is not leader]

    async def _kill(self) -> None:
        """SIGKILL to the leader."""
        leader = await self._leader()
        self._out(leader)
        leader.kill()
        await self._recover(leader)

    async def _kill_door(self) -> None:
        """The same to a server that waits."""
        door = self._rng.choice(await self._doors())
        self._out(door)
        door.kill()
        await self._recover(door)

    async def _suspend(self) -> None:
        """SIGSTOP and SIGCONT to the leader, through its lease or not."""
        leader = await self._leader()
        self._out(leader)
        leader.process.send_signal(signal.SIGSTOP)
        try:
            await trio.sleep(self._rng.uniform(0, SUSPENDED_S))
        finally:
            leader.process.send_signal(signal.SIGCONT)
        await self._recover(leader)

    async def _recover(self, server: ServerProcess) -> None:
        """Wait until others are served, then until ``server`` serves as well."""
        if not await self.crowd.wait_answered(RECOVERED, RECOVERS_WITHIN_S):
            raise BenchError(f"nothing is answered any more: {self.crowd.books.told}")
        with trio.move_on_after(RECOVERS_WITHIN_S) as patience:
            while not await trio.to_thread.run_sync(server.is_ready):  # noqa: ASYNC110 - another process is
                await trio.sleep(LOOK_S)
        if patience.cancelled_caught:
            raise BenchError(f"a server is not ready again: {server.log[-2000:]}")
        self._in(server)

    async def _end_backends(self) -> None:
        """The database ends connections, again and again."""
        text = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'bunqueue-trio'"
        for _ in range(BREAKS):
            await self._ask(text)
            await trio.sleep(self._rng.uniform(0, 0.2))

    async def _crash(self) -> None:
        """A process of the database is killed: all end, and it recovers from its log."""
        await trio.to_thread.run_sync(self.cluster.database.crash)

    async def _cut(self) -> None:
        """The way to the database breaks between a commit and its answer."""
        for _ in range(CUTS):
            self.cluster.way.left = 1
            with trio.fail_after(RECOVERS_WITHIN_S):
                while self.cluster.way.left:  # noqa: ASYNC110 - another thread counts
                    await trio.sleep(0.01)

    async def _promote(self) -> None:
        """A replica that is behind takes the place of the database; the leader lives, and writes again what it has not got."""
        replica = await trio.to_thread.run_sync(self.cluster.add_replica)
        try:
            await trio.to_thread.run_sync(self.cluster.database.send_no_more)
            await trio.sleep(self._rng.uniform(0, BEHIND_S))
        finally:
            await trio.to_thread.run_sync(self.cluster.fail_over, replica)

    async def _restart_all(self) -> None:
        """An upgrade: each server is taken out, stopped and started, the leader last."""
        for server in [*await self._doors(), await self._leader()]:
            self._out(server)
            await trio.sleep(0.2)  # as long as a load balancer takes
            code = await trio.to_thread.run_sync(server.stop)
            if code not in (0, 1):  # 1: it was replaced just then
                raise BenchError(f"a server that was stopped has ended with {code}: {server.log[-2000:]}")
            await self._recover(server)

    def _out(self, server: ServerProcess) -> None:
        if server.port in self.crowd.ports:
            self.crowd.ports.remove(server.port)

    def _in(self, server: ServerProcess) -> None:
        if server.port not in self.crowd.ports:
            self.crowd.ports.append(server.port)

    # --- whether all is as it was said ----------------------------------------------------------

    async def _term(self) -> int:
        [(term,)] = await self._ask("SELECT term FROM bq.leader")
        return int(term)

    async def _ask(self, text: str) -> list[Any]:
        return await trio.to_thread.run_sync(self.cluster.ask, text)

    async def _check(self, books: Books) -> list[str]:
        waiting = await self._ask(f"SELECT id, data FROM bq.job WHERE queue = '{books.queue}'")
        ended = await self._ask(f"SELECT id, data, state FROM bq.finished WHERE queue = '{books.queue}'")
        there, done = {row[0] for row in (*waiting, *ended)}, {row[0] for row in ended if row[2] == "completed"}
        copies = Counter(bytes(row[1]) for row in (*waiting, *ended))
        heard, wanted = self.crowd.heard, there
        with trio.move_on_after(HEARD_WITHIN_S):
            while not wanted <= heard.keys():  # noqa: ASYNC110 - the reader is on its way
                await trio.sleep(0.05)
        found = [
            *books.strange, *self.crowd.strange,
            *(f"{job_id} was pushed, and is lost" for job_id in books.pushed.keys() - there),
            *(f"{job_id} was acknowledged, and has not ended" for job_id in books.acked.keys() - done),
            *(f"push {number.decode()} has made {n} jobs" for number, n in copies.items() if n > 1),
            *(f"{job_id} had the tokens {tokens}" for job_id, tokens in books.tokens.items() if len(tokens) > 1),
            *(f"nobody heard of {job_id}" for job_id in wanted - heard.keys()),
            *(f"{job_id} was heard of {heard[job_id]} times" for job_id in there if heard[job_id] > 1),
        ]  # fmt: skip
        self.crowd.strange.clear()
        return found
