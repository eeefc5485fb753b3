"""The database as the brokers reach it: sessions that break, requests and answers that are lost or held, outages, and a promoted replica.

A request that was sent may be carried out when nobody waits for it any more; so it is when a process or a connection dies.
"""

import contextvars
import random
from collections.abc import Callable
from typing import NamedTuple

import trio

from bunqueue_trio.errors import StoreError
from bunqueue_trio.storage.postgres.link import Query
from bunqueue_trio.storage.postgres.parameters import COMMIT
from tests.cluster.cluster_tables import Row
from tests.cluster.database import Database

LATENCIES_S: tuple[tuple[float, ...], ...] = ((0.0,), (0.0, 0.001), (0.0005, 0.02), (0.0, 0.01, 1.0))


class Risks(NamedTuple):
    """How often what happens to a request."""

    lost: float = 0.0
    """It does not arrive, and the connection breaks."""
    unheard: float = 0.0
    """It is done, and its answer does not arrive: a proxy cuts after the COMMIT."""
    late: float = 0.0
    """It takes so long that nobody waits for it any more, and is done then."""


class Request:
    """A statement on its way, and its answer when it has arrived."""

    def __init__(self, host: str, session: int, query: Query) -> None:
        self.host = host
        self.session = session
        self.query = query
        self.answer: list[Row] | Exception | None = None


class Postgres:
    """The server, and all ways to it."""

    def __init__(self, database: Database, rng: random.Random, say: Callable[[str], None]) -> None:
        self.database = database
        self._rng = rng
        self._say = say
        self.risks = Risks()
        self.latencies_s: tuple[float, ...] = (0.0,)
        self._up = trio.Event()
        self._up.set()
        self._epoch = 0
        """Raised when all sessions end."""
        self._sessions = 0
        self._of_epoch: dict[int, int] = {}
        self._refused: set[str] = set()
        self._held: dict[str, trio.Event] = {}
        self._on_the_way: list[Request] = []
        self.catches: str | None = None
        """The broker whose next commit is held, and all that it sends behind it."""
        self.nursery: trio.Nursery | None = None
        self.context = contextvars.Context()
        """That of nobody: what is on its way goes on when its sender stands still."""

    # --- what goes wrong ------------------------------------------------------------------------

    def end_sessions(self) -> None:
        """As ``pg_terminate_backend`` for all, or a crash restart."""
        self._epoch += 1
        self._of_epoch.clear()

    def go_down(self) -> None:
        self.end_sessions()
        self._up = trio.Event()

    def come_up(self) -> None:
        self._up.set()

    @property
    def is_up(self) -> bool:
        return self._up.is_set()

    def refuse(self, host: str) -> None:
        """Let a broker get nowhere, and know it."""
        self._refused.add(host)

    def hold(self, host: str) -> None:
        """Let a broker get nowhere, and not know it."""
        self._held.setdefault(host, trio.Event())

    def arrive(self, host: str) -> None:
        """Let what a broker has sent, and is held, be there in this very moment; the answers are held still."""
        for request in self._on_the_way:
            if request.host == host and request.answer is None:
                self._do(request)

    def let_go(self, host: str) -> None:
        self._refused.discard(host)
        if host in self._held:
            self._held.pop(host).set()

    def is_cut(self, host: str) -> bool:
        return host in self._refused or host in self._held

    # --- sessions -------------------------------------------------------------------------------

    def new_session(self, host: str) -> int:
        if not self.is_up or self.is_cut(host):
            raise StoreError("simulated: connection refused")
        self._sessions += 1
        self._of_epoch[self._sessions] = self._epoch
        return self._sessions

    def check(self, host: str, session: int) -> None:
        if not self.is_up or session not in self._of_epoch or self.is_cut(host):
            self._of_epoch.pop(session, None)
            raise StoreError("simulated: the connection broke")

    def end(self, session: int) -> None:
        self._of_epoch.pop(session, None)

    def draw(self) -> str | None:
        """Return which risk comes true for one request."""
        chance = self._rng.random()
        for name, risk in self.risks._asdict().items():
            chance -= risk
            if chance < 0:
                return name
        return None

    def at_once(self, host: str, session: int, query: Query) -> list[Row]:
        self.check(host, session)
        fate = self.draw()
        if fate == "lost":
            self.end(session)
            raise StoreError("simulated: the connection broke before")
        rows = self.database.run(query)
        if fate in ("unheard", "late"):
            self.end(session)
            raise StoreError("simulated: the connection broke after")
        return rows

    async def pass_on(self, host: str, session: int, query: Query) -> list[Row]:
        """Send a request, and wait for its answer; who is cancelled does not stop it."""
        self.check(host, session)
        over, outcome = trio.Event(), list[list[Row] | Exception]()

        def tell(what: list[Row] | Exception) -> None:
            outcome.append(what)
            over.set()

        assert self.nursery is not None
        self.context.run(self.nursery.start_soon, self._carry, host, session, query, tell)
        await over.wait()
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return outcome[0]

    async def _carry(
        self, host: str, session: int, query: Query, tell: Callable[[list[Row] | Exception], None]
    ) -> None:
        fate, rng, request = self.draw(), self._rng, Request(host, session, query)
        if fate is None:
            self._on_the_way.append(request)
        if host == self.catches and query.text == COMMIT:
            self.catches = None
            self.hold(host)
        await self._travel(host)
        if fate == "late":
            await trio.sleep(rng.choice((0.5, 8, 12, 30)))
        if fate is None:
            self._on_the_way.remove(request)
        if request.answer is None and (fate == "lost" or session not in self._of_epoch or not self.is_up):
            self.end(session)
            tell(StoreError("simulated: the connection broke before"))
            return
        self._do(request)
        answer = request.answer
        assert answer is not None
        await self._travel(host)
        if fate == "unheard" or session not in self._of_epoch:
            self.end(session)
            answer = StoreError("simulated: the connection broke after")
        tell(answer)

    def _do(self, request: Request) -> None:
        """Do what a request says, unless that was done."""
        if request.answer is None and request.session in self._of_epoch and self.is_up:
            try:
                request.answer = self.database.run(request.query)
            except Exception as error:
                request.answer = error

    async def _travel(self, host: str) -> None:
        await trio.sleep(self._rng.choice(self.latencies_s))
        while host in self._held:
            await self._held[host].wait()


class Reach:
    """The way of one process; see :class:`tests.cluster.link.Way`."""

    def __init__(self, postgres: Postgres, host: str) -> None:
        self._postgres = postgres
        self._host = host
        self.dead = False

    def _alive(self) -> None:
        if self.dead:
            raise StoreError("simulated: this process has ended")

    def connect(self) -> int:
        self._alive()
        return self._postgres.new_session(self._host)

    def at_once(self, session: int, query: Query) -> list[Row]:
        self._alive()
        return self._postgres.at_once(self._host, session, query)

    async def soon(self, session: int, query: Query) -> list[Row]:
        await trio.lowlevel.checkpoint()
        self._alive()
        return await self._postgres.pass_on(self._host, session, query)
