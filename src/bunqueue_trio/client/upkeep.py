"""The upkeep of a client's connection: it is made, introduced (who works over it, which events are wanted), and made again when it is lost."""

from collections.abc import Awaitable, Callable
from os import getpid
from random import Random  # noqa: TID251 - jitter; the client hands it in
from threading import get_ident
from typing import Any

import anyio

from bunqueue_trio.client.backend import Signal, rest
from bunqueue_trio.client.connection import Connect
from bunqueue_trio.client.events import Streams
from bunqueue_trio.client.link import ServerLink
from bunqueue_trio.client.log import log
from bunqueue_trio.client.traces import Traces, told
from bunqueue_trio.errors import Refused, ServerUnavailable
from bunqueue_trio.protocol.events import Event

# An orderly end takes no longer, and no job waits for it.
CLOSE_S = 2.0
BACKOFF_MIN_S = 0.05
BACKOFF_MAX_S = 5.0
CLOSED = "the client is not open: it works inside its `async with` only"
ELSEWHERE = "the client was opened in another thread, and belongs to its loop: open one here, or come back by `anyio.from_thread.run`"
FORKED = "the client was opened in another process, before a fork: open one here"

Introduction = Callable[[], dict[str, Any]]


class Upkeep:
    """Keeps a client connected to ``url`` while it is open; whoever asks for :meth:`linked` waits ``patience`` seconds at most."""

    def __init__(
        self, url: str, connect: Connect, streams: Streams, *,
        queue: str | None, worker: Introduction | None, patience: float, on_demand: bool,
    ) -> None:  # fmt: skip
        self._url = url
        self._connect = connect
        self._streams = streams
        self._queue = queue
        self._worker = worker
        self.patience: float = patience
        self._on_demand = on_demand
        self.connections: int = 0
        """How often it was connected."""

    def begin(self) -> None:
        """Set up what belongs to one block, and to one loop."""
        self._thread: int = get_ident()
        self._process: int = getpid()
        self.link: ServerLink | None = None
        self._subscribed: tuple[ServerLink | None, list[str]] = (None, [])
        # Whether the server has answered anything since the subscription was sent.
        self._is_in_force = False
        self._changed = Signal()
        self._wanted = anyio.Event()
        if not self._on_demand:
            self._wanted.set()
        self.refused: Refused | None = None
        """Why the server will never let us in; None as far as is known."""
        self._trouble = f"{self._url}: not connected yet"
        self.is_open: bool = False
        self.closing: bool = False
        self._gone = anyio.Event()

    async def close(self) -> None:
        """End the connection in order, if that is quick; nobody waits for another one."""
        self.closing = True
        self._changed.ring()
        if self.link is not None and not self.link.over:
            self.link.close()
            with anyio.move_on_after(CLOSE_S):
                await self._gone.wait()

    async def subscribe(self, ping: Callable[[], Awaitable[None]]) -> None:
        """Return when the events that somebody wants are on their way; ``ping`` returns when the server has answered."""
        if not self._is_in_force or self._subscribed != (self.link, self._streams.wanted):
            if self.link is not None and not self.link.over:
                # Else the next connection begins with it.
                self._ask_for_events(self.link)
            subscribed = self._subscribed
            # Answered in order: the subscription is in force then.
            await ping()
            self._is_in_force = self._subscribed is subscribed

    def live_link(self) -> ServerLink | None:
        """Return the connection; None while there is none.

        Raises:
            RuntimeError: the client was opened in another thread, whose loop alone could wake whoever waits here, or in another process.
        """
        if getpid() != self._process:
            raise RuntimeError(FORKED)
        if get_ident() != self._thread:
            raise RuntimeError(ELSEWHERE if self.is_open and not self.closing else CLOSED)
        return None if self.link is None or self.link.over else self.link

    async def linked(self, spent: float = 0) -> ServerLink:
        """Wait for a connection, no longer than the patience lasts, of which earlier tries have ``spent`` some seconds.

        Raises:
            RuntimeError: the client is not open.
        """
        self._wanted.set()
        with anyio.move_on_after(self.patience - spent):
            while True:
                if self.closing or not self.is_open:
                    raise RuntimeError(CLOSED)
                if self.refused is not None:
                    raise Refused(self.refused.status, str(self.refused), self.refused.code)
                if self.link is not None and not self.link.over:
                    return self.link
                await self._changed.wait()
        raise ServerUnavailable(f"no connection for {self.patience:g} s: {self._trouble}")

    async def stay_connected(self, random: Random) -> None:
        """Stay connected, with pauses that ``random`` varies, until it is closed or refused for good."""
        failures, said = 0, ""
        await self._wanted.wait()
        while not self._is_done():
            try:
                async with self._connect(self._queue) as connection:
                    self.link = link = ServerLink(connection, self._heard, self._has_other)
                    self.connections += 1
                    if self._worker is not None:
                        link.post("RegisterWorker", **self._worker())
                    self._ask_for_events(link)
                    if self.connections > 1:
                        self._streams.gap()
                    self._changed.ring()
                    if said:
                        said = ""
                        log.info("connected again", url=self._url)
                    await link.run()
                    failures = 0 if link.answered else failures
                    how = "" if link.answered else " before anything was answered: is a bunqueue server there?"
                    self._trouble = f"{self._url}: the connection was lost{how}"
            except Refused as refused:
                self.refused = refused
            except OSError as error:
                self._trouble = str(error)
            except Exception as error:
                # Whatever it is, it is the trouble of one connection.
                self._trouble = f"{self._url}: {type(error).__name__}: {error}"
                log.warning("a connection broke in an unexpected way", exception=told(error, Traces())[1])
            self._changed.ring()
            if self._is_done():
                break
            # Once for each kind: it may last for hours.
            if self._trouble != said:
                said = self._trouble
                log.warning("no connection to the server", reason=said)
            pause = min(BACKOFF_MIN_S * 2**failures, BACKOFF_MAX_S)
            failures = min(failures + 1, 10)
            await rest(pause * random.uniform(0.5, 1))
        self._gone.set()

    async def _has_other(self) -> bool:
        """Return whether anybody answers to another connection."""
        try:
            async with self._connect(self._queue):
                return True
        except Refused:
            return True
        except Exception:
            # Whatever it is, there is none.
            return False

    def _is_done(self) -> bool:
        return self.closing or self.refused is not None

    def _heard(self, event: Event | None) -> None:
        if event is None:
            self._streams.gap()
        else:
            self._streams.publish(event)

    def _ask_for_events(self, link: ServerLink) -> None:
        """Ask for the events that somebody wants; without that the server sends all of them."""
        self._subscribed, self._is_in_force = (link, self._streams.wanted), False
        # A worker knows what it reports; an older server does not know the field, and sends those events, too.
        own = None if self._worker is None else False
        link.post("Subscribe", events=self._streams.wanted, own=own)
