"""The network between clients, brokers and each other: who listens where, and what is cut or held.

A connection between two machines that cannot reach each other is held: neither end notices, until it can again or one gives up.
"""

import random
from collections.abc import Callable
from typing import Any

import trio

from tests.sim.wire import Connection, End, Listener, Pace

CLIENT = "client"
"""The machine of all clients."""


class HostListener(Listener):
    """A listener with an address."""

    def __init__(self, net: "Net", host: str, port: int) -> None:
        super().__init__()
        self._net = net
        self.host, self.port = host, port
        self.socket = self

    def getsockname(self) -> tuple[str, int]:
        return self.host, self.port

    async def aclose(self) -> None:
        self._net.forget(self)
        await super().aclose()


class Linked:
    """A connection, and the machines that it is between."""

    def __init__(self, connection: Connection, client: str, server: str) -> None:
        self.connection = connection
        self.hosts = client, server
        self.on_let_go: Callable[[], None] | None = None
        """What happens to it when it is held no more."""

    @property
    def is_held(self) -> bool:
        return any(way.holds for way in self.connection.ways)

    def towards(self, host: str) -> Any:
        """Return the way of what ``host`` gets."""
        up, down = self.connection.ways
        return up if self.hosts[1] == host else down


class Net:
    """All connections."""

    def __init__(self, rng: random.Random, pace: Pace) -> None:
        self._rng = rng
        self.pace = pace
        self._number = 0
        self._listeners: dict[tuple[str, int], HostListener] = {}
        self._links: list[Linked] = []
        self._held: dict[tuple[str, str], None] = {}
        """Pairs of machines: what the first says does not get to the second."""

    def listen(self, host: str, port: int) -> HostListener:
        listener = self._listeners[host, port] = HostListener(self, host, port)
        return listener

    def forget(self, listener: HostListener) -> None:
        if self._listeners.get((listener.host, listener.port)) is listener:
            del self._listeners[listener.host, listener.port]

    def listens(self, host: str, port: int) -> bool:
        return (host, port) in self._listeners

    async def open(self, client: str, host: str, port: int) -> End:
        """Return the client's end of a new connection; takes for ever where nothing gets through.

        Raises:
            OSError: nobody listens there.
        """
        await trio.lowlevel.checkpoint()
        while (client, host) in self._held or (host, client) in self._held:  # noqa: ASYNC110 - what the kernel does
            await trio.sleep(1)
        return self.connect(client, host, port)

    def connect(self, client: str, host: str, port: int) -> End:
        """Do the same at once.

        Raises:
            ConnectionRefusedError: nobody listens there.
        """
        listener = self._listeners.get((host, port))
        if listener is None:
            raise ConnectionRefusedError(111, "nobody listens")
        self._number += 1
        connection = Connection(self._rng, self.pace, self._number)
        link = Linked(connection, client, host)
        self._links = [each for each in self._links if not each.connection.over or each.is_held]
        self._links.append(link)
        for says, hears in (link.hosts, link.hosts[::-1]):
            if (says, hears) in self._held:
                link.towards(hears).hold()
        listener.offer(connection.server)
        return connection.client

    # --- what goes wrong ------------------------------------------------------------------------

    def hold(self, says: str, hears: str) -> None:
        """Let nothing through from one machine to another."""
        self._held[says, hears] = None
        for link in self._links:
            if set(link.hosts) == {says, hears}:
                link.towards(hears).hold()

    def let_go(self, says: str, hears: str) -> None:
        """Let everything through again, what was held first."""
        self._held.pop((says, hears), None)
        for link in self._links:
            if set(link.hosts) == {says, hears}:
                link.towards(hears).let_go()
                if link.on_let_go is not None and not link.is_held:
                    link.on_let_go()

    def held(self) -> list[tuple[str, str]]:
        return list(self._held)

    def cut(self, host: str, share: float = 1.0, other: str | None = None) -> None:
        """Tear connections of a machine, or those with one ``other`` machine."""
        for link in self._links:
            if host in link.hosts and (other is None or other in link.hosts) and self._rng.random() < share:
                link.connection.cut()

    def lose(self, host: str, *, silently: bool) -> None:
        """The process on a machine has died, this instant; nobody hears of it when the machine has, too, before it is up again."""
        for listener in [each for each in self._listeners.values() if each.host == host]:
            self.forget(listener)
        for link in [each for each in self._links if host in each.hosts]:
            ends = self._rng.choice(
                (link.connection.cut, link.connection.orphan if link.hosts[1] == host else link.connection.cut)
            )
            if silently:
                for way in link.connection.ways:
                    way.hold()
            if link.is_held:
                link.on_let_go = link.connection.cut
            else:
                ends()

    def wake(self, host: str) -> None:
        """A machine that was lost is up again: it knows nothing of its old connections, and says so."""
        for link in self._links:
            if host in link.hosts and link.on_let_go is not None:
                link.on_let_go()
                for way in link.connection.ways:
                    way.let_go()
