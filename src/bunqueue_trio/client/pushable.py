"""Handlers that can be pushed to: ``send.push(Email(…))``, and which client takes that to the server. How a push is sent is not known here."""

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial, update_wrapper
from types import FunctionType, MethodType
from typing import Any, Generic, NamedTuple, TypeVar, Unpack, cast

import anyio
import anyio.lowlevel

from bunqueue_trio.client.backend import to_be_awaited
from bunqueue_trio.client.client import DEFAULT_URL, Client, Job
from bunqueue_trio.client.connection import Connect
from bunqueue_trio.client.handlers import Handler
from bunqueue_trio.protocol.address import given_url, http_url
from bunqueue_trio.protocol.options import PushOptions
from bunqueue_trio.protocol.places import Place, note_place, place_of
from bunqueue_trio.protocol.standin import STAND_INS

U = TypeVar("U")
H_co = TypeVar("H_co", bound=Handler, covariant=True)


class Pushable(Generic[H_co]):
    """A handler of a worker or an app: the function that it was, which is called as before, with :meth:`push` beside."""

    __name__: str
    __qualname__: str
    __call__: H_co

    def push(
        self: "Pushable[Callable[[Job[U]], Any]]", data: U, **options: Unpack[PushOptions]
    ) -> Coroutine[Any, Any, str]:
        """Add a job for this handler to its queue, by its name, as :meth:`Client.push` does; return its id.

        In a handler it goes by the client of the job, elsewhere by that of ``async with app:``, or the worker, and in a
        test by the one of the test kit. To the handler of an app or worker of another server it goes by the client of that, if it is open or runs.

        Raises:
            RuntimeError: there is no such client.
            ValueError: it is the handler of several queues, or names.
        """
        queue, name, home = place_of(self)
        if name is not None:
            options.setdefault("name", name)
        client, called = _client_of(home), getattr(self, "__name__", "a handler")
        if client is None:
            whose = f"the {type(home).__name__} of {called}"
            raise RuntimeError(
                f"{called}.push has no connection here: it works in `async with` {whose}, "
                "and in a handler that runs; without a loop it is SyncClient.push_to"
                if _AT_WORK.get() is None
                else f"{called}.push has no connection here: the handler that runs is of another server. It works in `async with` {whose}, "
                "and while that runs in the same program, on the same loop"
            )
        return to_be_awaited(f"{called}.push", client.push(queue, data, **options))


class Home:
    """What handlers belong to: a worker or an app. While a block of it is open, they can be pushed to from anywhere."""

    def __init__(self, url: str | None, connect: Connect | None) -> None:
        # By loop.
        self._open: dict[object, Client] = {}
        self._serving: dict[object, list[Client]] = {}
        self.connector: Connect | None = connect
        """What connects in place of the usual way."""
        self.declared: str | None = url
        """The address that it was made with."""

    @property
    def address(self) -> str:
        """The address of its server."""
        raise NotImplementedError

    def is_beside(self, other: "Home") -> bool:
        """Return whether both are of one server, as far as their addresses tell."""
        return self.connector == other.connector and http_url(self.address) == http_url(other.address)

    def comes_along(self, other: "Home") -> bool:
        """Return whether it was of one server with ``other``, which alone was given another: that is of a program, as ``--url`` is."""
        mine, its = given_url(self.declared, DEFAULT_URL), given_url(other.declared, DEFAULT_URL)
        return self.connector == other.connector and mine == its == self.address

    def new_client(self) -> Client:
        """Return a client of its server, to be entered."""
        raise NotImplementedError

    @property
    def open_client(self) -> Client | None:
        """The client of the block that is open on this loop."""
        return self._open.get(_loop())

    @property
    def serving_client(self) -> Client | None:
        """A client of what it runs on this loop."""
        clients = self._serving.get(_loop())
        return clients[-1] if clients else None

    @contextmanager
    def serving(self, client: Client) -> Iterator[None]:
        """Know the ``client`` of its handlers' jobs during the block, on this loop."""
        clients = self._serving.setdefault(loop := anyio.lowlevel.current_token(), [])
        clients.append(client)
        try:
            yield
        finally:
            clients.remove(client)
            if not clients:
                del self._serving[loop]

    async def __aenter__(self) -> Client:
        """Connect to its server, for pushes to its handlers; nothing is worked on. Give the client."""
        loop = anyio.lowlevel.current_token()
        if loop in self._open:
            raise RuntimeError(f"a block of this {type(self).__name__} is open already: any task may push in it")
        self._open[loop] = client = self.new_client()
        try:
            return await client.__aenter__()
        except BaseException:
            del self._open[loop]
            raise

    async def __aexit__(self, *raised: object) -> None:
        client = self._open[loop := anyio.lowlevel.current_token()]
        try:
            await client.__aexit__(*raised)  # noqa: ASYNC102 - as it does itself
        finally:
            del self._open[loop]


def _loop() -> object:
    """Return which loop runs here; None without one."""
    try:
        return anyio.lowlevel.current_token()
    except anyio.NoEventLoopError:
        return None


class _AtWork(NamedTuple):
    """What a handler that runs belongs to, and the client for what it asks of the server."""

    home: Home
    client: Client


_AT_WORK: ContextVar[_AtWork | None] = ContextVar("_AT_WORK", default=None)
"""Of the handler that runs, and of what it has started."""


@contextmanager
def at_work(home: Home, client: Client) -> Iterator[None]:
    """Start handlers of ``home``: ``client`` is that of their jobs. Each task begins with what is said here, so it costs none of them anything."""
    before = _AT_WORK.set(_AtWork(home, client))
    try:
        yield
    finally:
        _AT_WORK.reset(before)


def pushable(function: Any, place: Place) -> Any:
    """Return ``function``, which is the handler of this place, with a ``push``; of what is no plain function, a partial that has it."""
    note_place(function, place)
    if not isinstance(function, FunctionType):
        function = update_wrapper(partial(function), function, updated=())
        note_place(function, place)
    function.push = MethodType(Pushable.push, function)
    return function


def _client_of(home: Home) -> Client | None:
    """Return the client of the job that is worked on, unless ``home`` is open, or of another server."""
    working, opened, stand_in = _AT_WORK.get(), home.open_client, STAND_INS.current
    if working is None:
        return cast("Client", stand_in.client) if opened is None and stand_in is not None else opened
    if working.home is home:
        return working.client
    if opened is not None:
        return opened
    if stand_in is not None or home.is_beside(working.home):
        return working.client
    return home.serving_client or (working.client if home.comes_along(working.home) else None)
