"""What a request asks for, and the response to it, on their way between a carrier and the gateway."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

from msgspec import Struct

from bunqueue_trio.api.access import ANYBODY, UNKNOWN, Grant
from bunqueue_trio.api.downloads import Download
from bunqueue_trio.api.event_stream import EventFeed
from bunqueue_trio.api.page_news import PageNews
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol.caller import By
from bunqueue_trio.protocol.commands import Pull, PullBatch
from bunqueue_trio.protocol.commands.spec import Role
from bunqueue_trio.protocol.replies import Reply
from bunqueue_trio.protocol.routes import Match, Route
from bunqueue_trio.runtime.begun import Begun
from bunqueue_trio.runtime.core import Core

ReadBody = Callable[[int], Awaitable[bytes]]
"""Reads the request's body of at most this many bytes, or raises ``Refused`` (413)."""


Wait = Callable[[Callable[[Begun], Awaitable[Reply]], Begun], Awaitable[Reply]]
"""Waits for a waiting pull on behalf of a carrier that has to notice when the client is gone."""


class Call(NamedTuple):
    """What a request line and headers ask for. Equal ones ask for the same, so a carrier may keep it."""

    method: str
    match: Match | Refused | None
    route: Route | None
    query: str
    is_open: bool
    """Neither rate limit nor authentication apply."""
    is_admitted: bool
    """A token is not needed, or one of the right ones was given."""
    client: str
    """Whose rate limit it counts against."""
    origin: str | None
    last_event_id: str | None
    is_foreign: bool = False
    """A page asks that is not among the configured origins."""
    allowed_headers: str = "Content-Type, Authorization"
    """What answers a preflight."""
    grant: Grant = ANYBODY
    """What its token allows."""
    lacks: Role | None = None
    """The role that its token would have to have."""
    ticket: str | None = None
    """Lets in once, where a token is missing."""
    cookie: str = ""
    """Of a browser that has signed in, where it may stand for a token."""
    csrf: str = ""
    """What shows that a page of ours asks with it."""

    def to(self, match: Match) -> "Call":
        """Return the same call with other values in its path."""
        return Call._make((self.method, match, *self[2:]))

    def name_taker(self, command: Pull | PullBatch, peer: str) -> None:
        """Let the pull of a worker that says nothing of itself be of its address."""
        if command.owner is None:
            address = peer if self.client == UNKNOWN else self.client
            if address != UNKNOWN:
                command.owner = f"@{address}"

    @property
    def target(self) -> object:
        """The command or the name of the page that it leads to; None when it leads nowhere."""
        return None if self.route is None else self.route.target


class Owed(Protocol):
    """What goes with a response, and is given back wherever that is not sent: the jobs of a pull, the place of an open page, room for a download."""

    def sent(self) -> None:
        """All of the response is sent."""

    def end(self) -> None:
        """Give back what is not sent; however often it is called."""


class Delivery:
    """The jobs in the reply to a pull, on their way to the client: unless they are sent, they return to their queue."""

    __slots__ = ("_core", "_reply")

    def __init__(self, core: Core, reply: Reply) -> None:
        self._core = core
        self._reply: Reply | None = reply

    def sent(self) -> None:
        """The client has them, as far as anybody can tell: there is nothing to return any more."""
        self._reply = None

    def end(self) -> None:
        """Return them, unless they were sent; however often it is called."""
        reply, self._reply = self._reply, None
        if reply is not None:
            self._core.give_back(reply)


class Response(Struct, frozen=True):
    """A response; Content-Length and Date are the carrier's, and so is the end of its ``delivery``."""

    # No tuple with names: to make one costs a push 0.4 µs.
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes | EventFeed | Download | PageNews
    delivery: Owed | None = None
    is_shared: bool = False
    """The body is the same bytes for everybody: nothing is held for this client."""


def sender(call: Call, peer: str) -> By:
    """Return who a request is from, over a connection from ``peer``; a proxy is named behind whom it speaks for."""
    address = peer if call.client == UNKNOWN else f"{call.client} via {peer}"
    return By(call.grant.name or address, address, call.grant.role)
