"""One request for a page: who asks, for what, and which server; and the parts of a page."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeVar, cast

from msgspec import Raw

from bunqueue_trio.api.downloads import Download
from bunqueue_trio.pages.findings import Finding, Picture
from bunqueue_trio.protocol.caller import By
from bunqueue_trio.protocol.catalog import SPECS
from bunqueue_trio.protocol.commands import Command
from bunqueue_trio.protocol.commands.spec import Role
from bunqueue_trio.protocol.replies import Reply
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.ui.beside import Beside
from bunqueue_trio.ui.payload import hidden

R = TypeVar("R", bound=Reply)


class Viewer(NamedTuple):
    """Who looks."""

    name: str
    role: Role
    """What the token allows; that of all who need none."""
    cookie: str
    csrf: str
    """What the forms of the page carry."""
    can_leave: bool
    """There is a login that can be ended."""


class Ask(NamedTuple):
    """A request that may be answered; names and ids are those of the path."""

    server: Server
    viewer: Viewer
    path: str
    """As it was asked for, with its query: for links back."""
    values: Mapping[str, str]
    query: Mapping[str, str]
    form: Mapping[str, str]
    """Of a POST."""
    base: str
    """The address of the server as the browser knows it."""
    now: int
    commits: int
    """How many commits there had been."""
    found: Callable[[], Awaitable[tuple[Picture, list[Finding]]]]
    """Returns the picture of the server and the findings, as of the last two seconds."""
    beside: Callable[[], Awaitable[Beside]]
    """Returns what stands beside them on the first page, as of then, too."""
    known: list[Any] | None = None
    """What is asked an archive over a network is asked once for all that the page looks at; None: each look asks anew."""

    @property
    def queue(self) -> str:
        """The queue that the path or else the query names; empty when neither does."""
        return self.values.get("queue") or self.query.get("queue", "")

    @property
    def by(self) -> By:
        """Who it is that does something."""
        return By(self.viewer.name, "dashboard", self.viewer.role)

    @property
    def mask(self) -> Collection[str]:
        """The keys of payloads whose values are not shown, in lower case."""
        return frozenset(key.lower() for key in self.server.settings.ui_mask)

    @property
    def hides(self) -> Callable[[Raw], Raw] | None:
        """Returns payloads for a file as this viewer may have them; None: whole, to be used again."""
        if self.viewer.role is not Role.READ or not self.mask:
            return None
        return partial(hidden, mask=self.mask)

    @property
    def cannot(self) -> str:
        """Why nothing can be changed now; empty when it can."""
        if self.viewer.role is Role.READ:
            return "You may look, and not change anything."
        if self.server.journal.failing is not None:
            kind = self.server.settings.store_kind
            if self.server.journal.is_damaged:
                return "The file is damaged, and changes are refused until it is restored. Reading goes on."
            refuses = "The disk refuses changes." if kind == "disk" else "The database takes no changes."
            return f"{refuses} Reading goes on; buttons work again when it is back."
        if not self.server.core.is_sure:
            return "Another server may lead: this one changes nothing until it knows."
        return ""

    def may(self, kind: type[Command[Any]]) -> bool:
        """Return whether the token allows it, as it would over the API."""
        return self.viewer.role >= SPECS[kind].role

    async def look(self, command: "Command[R]") -> R:
        """Return what a command finds now.

        Raises:
            Refused: it cannot be honoured.
            StoreError: the disk cannot be read.
        """
        return cast("R", await self.server.core.peek(command, self.known))


class Screen(NamedTuple):
    """A page to be made."""

    template: str
    title: str
    nav: str
    """Which entry of the navigation it belongs to."""
    context: Mapping[str, Any]
    status: int = 200
    live_s: int = 0
    """How often the page looks again; 0: it does not."""


class Leads(NamedTuple):
    """Another page to go to."""

    where: str
    cookie: str | None = None
    """A Set-Cookie header."""


class Saves(NamedTuple):
    """A file to be saved, made while it is sent."""

    name: str
    feed: Download


class Wrong(Exception):
    """What was asked for cannot be done; said to the person who asked."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status
