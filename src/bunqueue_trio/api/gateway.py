"""One HTTP request, whatever carried it: checks, route, command, response. No sockets, no framework.

The order of the checks is the documented one: OPTIONS, open routes, rate limit, authentication, route,
body. Both ways in (Quart behind Hypercorn, and the express lane) call :meth:`Gateway.respond`.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import structlog
import trio

from bunqueue_trio import errors
from bunqueue_trio.api.access import Access, allowed_headers, client_key, preflight
from bunqueue_trio.api.event_stream import EventStream, parse_event_id
from bunqueue_trio.config import LARGE_BODY_BYTES, RECEIVE_BYTES, SMALL_BODY_BYTES
from bunqueue_trio.errors import Refused, StoreError
from bunqueue_trio.pages.table import ANSWERS, DOCS, make_page
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.catalog import CODED, FILLS, TAKES
from bunqueue_trio.protocol.codec import decode, encode
from bunqueue_trio.protocol.replies import Reply, error_reply, payload_size
from bunqueue_trio.protocol.routes import ROUTES, Match, Route, Router, query_object, refuse_query
from bunqueue_trio.runtime.budget import Hold
from bunqueue_trio.runtime.core import Begun, Core
from bunqueue_trio.runtime.server import Server

_log = structlog.get_logger()

JSON = "application/json"

ReadBody = Callable[[int], Awaitable[bytes]]
"""Reads the request's body of at most this many bytes, or raises ``Refused`` (413)."""


Wait = Callable[[Callable[[Begun], Awaitable[Reply]], Begun], Awaitable[Reply]]
"""Waits for a long poll on behalf of a carrier that has to notice when the client is gone."""


class Call(NamedTuple):
    """What a request line and headers ask for. Equal ones ask for the same, so a carrier may keep it."""

    method: str
    match: Match | Refused | None
    route: Route | None
    query: str
    is_open: bool
    """Neither rate limit nor authentication apply."""
    may_enter: bool
    """A token is not needed, or the right one was given."""
    client: str
    """Whose rate limit it counts against."""
    origin: str | None
    last_event_id: str | None
    is_foreign: bool = False
    """A page asks that is not among the configured origins."""
    allowed_headers: str = "Content-Type, Authorization"
    """What a preflight is told."""

    @property
    def target(self) -> object:
        """The command or the name of the page that it leads to; None when it leads nowhere."""
        return None if self.route is None else self.route.target


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


class Response(NamedTuple):
    """A response; Content-Length and Date are the carrier's, and so is the end of its ``delivery``."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes | EventStream
    delivery: Delivery | None = None
    is_shared: bool = False
    """The body is the same bytes for everybody: nothing is held for this client."""


class Gateway:
    """Answers requests for a server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._turn = trio.Lock()
        self._core = server.core
        settings = server.settings
        self._router = Router(ROUTES)
        self.access: Access = Access(settings)
        self._body_max = settings.body_max_bytes
        self._json_headers: dict[str | None, tuple[tuple[str, str], ...]] = {}

    def resolve(self, method: str, target: str, headers: Mapping[str, str]) -> Call:
        """Return what is asked for; ``target`` is path and query as sent, header names are lower case.

        It refuses nothing: that is for :meth:`respond`, each time anew.
        """
        access = self.access
        path, _, query = target.partition("?")
        match = self._match(path, "GET" if method == "HEAD" else method)
        route, is_open, needs_token, is_foreign = None, False, True, False
        if isinstance(match, Match):
            route = match.methods.get(method) or (_head_route(match) if method == "HEAD" else None)
            is_open = any(route.open for route in match.methods.values())
            asked = match.methods.get("GET" if method == "HEAD" else method)
            needs_token = asked is None or asked.asks_for_token(metrics_auth=self._server.settings.metrics_auth)
            is_foreign = access.is_foreign(headers, is_page=asked is not None and asked.auth == "never")
            if headers.get("content-encoding", "identity").lower() != "identity" and method not in _BODILESS:
                match = errors.UNKNOWN_CONTENT_CODING.refuse()
        return Call(
            method, match, route, query, is_open,
            may_enter=not is_foreign
            and (not needs_token or access.is_authorized(headers.get("authorization", ""))),
            client=client_key(headers),
            origin=access.origin_of(headers),
            last_event_id=headers.get("last-event-id"),
            is_foreign=is_foreign,
            allowed_headers=allowed_headers(headers) if method == "OPTIONS" else "",
        )  # fmt: skip

    async def respond(self, call: Call, body: bytes | ReadBody, wait: Wait | None = None) -> Response:
        """Return the response to ``call``; only cancellation and broken invariants get past it.

        ``wait`` is called when a long poll begins to wait; without it the carrier cancels a request whose client is gone.
        """
        try:
            return await self._respond(call, body, wait)
        except Refused as refused:
            return self._error(refused, call.origin, coded=call.target in CODED and refused.status not in _LITERAL)
        except StoreError as error:  # a finished job could not be read
            _log.error("read failed", error=str(error))
            return self._error(errors.STORAGE_DOWN.refuse(), call.origin, coded=call.target in CODED)

    def _route(self, call: Call) -> Route | Response:
        """Return the row for ``call``, or what is answered without one.

        Raises:
            Refused: 429, 401, 404, or what is wrong with the path.
        """
        if call.method == "OPTIONS":
            return Response(204, (*self.access.cors(call.origin), *preflight(call.allowed_headers)), b"")
        if not call.is_open:
            self._admit(call)
        if not isinstance(call.match, Match):
            raise call.match or errors.NOT_FOUND.refuse()
        return call.route or self._wrong_method(call.match, call.origin)

    async def _respond(self, call: Call, body: bytes | ReadBody, wait: Wait | None) -> Response:
        route, match, origin = self._route(call), call.match, call.origin
        if isinstance(route, Response):
            return route
        assert isinstance(match, Match)
        kind: Any = route.target
        if isinstance(kind, str):
            return await self._page(kind, match, call)
        if route.method == "GET":
            body = query_object(call.query, kind) if call.query else b"{}"
        else:
            refuse_query(call.query, kind)
            self._core.check_room(kind)  # early: a flood must not be read and decoded just to be refused
            if not isinstance(body, bytes):
                body = await body(self._body_max)
        if len(body) > SMALL_BODY_BYTES:
            await self._wait_turn_of(kind, len(body))
        if kind in ANSWERS:
            decode(kind, body)
            content_type, body, status = ANSWERS[kind](self._server)
            return Response(status, self._headers(content_type, origin), body)
        begun = self._begin(kind, body, route, match)
        reply = begun.reply
        if begun.polls and wait is not None:
            reply = await wait(self._core.finish, begun)
        elif begun.polls or begun.epoch:
            reply = await self._core.finish(begun)
        delivery = Delivery(self._core, reply) if kind in TAKES else None
        try:
            self._server.buffers.check(payload_size(reply))  # before it is copied: that is what costs
            encoded = encode(reply)
        except (Refused, MemoryError):
            self._core.give_back(reply)
            raise
        return Response(200, self._headers(JSON, origin), encoded, delivery)

    def count(self, response: Response, hold: Hold) -> Response:
        """Let ``hold`` count the body of ``response`` until it is sent; return a refusal instead if there is no room."""
        body = response.body
        if not isinstance(body, bytes) or len(body) <= RECEIVE_BYTES or response.is_shared:
            return response
        try:
            hold.grow(len(body))
        except Refused as refused:
            if response.delivery is not None:
                response.delivery.end()
            return self.error(refused, {})
        return response

    async def wait_turn(self) -> None:
        """Wait in line with a large request that is no push: in a round of all tasks one is worked on."""
        async with self._turn:
            pass

    async def _wait_turn_of(self, kind: type[c.Command], size: int) -> None:
        if kind in FILLS:
            if self._core.journal.must_wait(size):
                await self._core.journal.wait_turn()
        elif size > LARGE_BODY_BYTES:
            await self.wait_turn()

    def _begin(self, kind: Any, body: bytes, route: Route, match: Match) -> Begun:
        command = decode(kind, body or (b"{}" if route.optional_body else b""), route.optional_body, **match.values)
        return self._core.begin(command, size=len(body))

    async def _page(self, name: str, match: Match, call: Call) -> Response:
        if name == "events":
            return self._events(match, call)
        if name == "websocket":
            raise errors.UPGRADE_REQUIRED.refuse()
        content_type, body, status = await make_page(name, self._server)
        headers = self._headers(content_type, call.origin)
        is_shared = name in DOCS
        return Response(status, (*headers, *_DOCS) if is_shared else headers, body, is_shared=is_shared)

    def _events(self, match: Match, call: Call) -> Response:
        queue = match.values.get("queue")
        if queue is not None:
            self._core.check_queue(queue)
        after = parse_event_id(call.last_event_id)
        headers = self._headers("text/event-stream", call.origin)
        return Response(200, (*headers, *_STREAM), EventStream(self._server, queue, after))

    def _match(self, path: str, method: str) -> Match | Refused | None:
        """Return where ``path`` leads. It has one reading, whoever asks: nobody else looks at a path.

        A refusal is returned, not raised: rate limit and authentication come first.
        """
        try:
            return self._router.match(_origin_form(path), method)
        except Refused as refused:
            return refused

    def admit_websocket(self, call: Call) -> str | None:
        """Check a handshake for a WebSocket's route; return the queue whose events it is for, None for all.

        Raises:
            Refused: as for any other request.
        """
        self._admit(call)
        assert isinstance(call.match, Match)
        queue = call.match.values.get("queue")
        if queue is not None:
            self._core.check_queue(queue)
        return queue

    def _admit(self, call: Call) -> None:
        """Count a request against its client's limit, and let it in if it may.

        Raises:
            Refused: 429, 403 or 401.
        """
        limiter = self._server.limiter
        if limiter.enabled:
            wait_ms = limiter.retry_after_ms(call.client, self._core.clock.now())
            if wait_ms:
                raise Refused(*errors.RATE_LIMITED, retry_after=-(-wait_ms // 1000))
        if not call.may_enter:
            if call.is_foreign:
                raise errors.FOREIGN_ORIGIN.refuse()
            raise errors.UNAUTHORIZED.refuse()

    def _headers(self, content_type: str, origin: str | None) -> tuple[tuple[str, str], ...]:
        if content_type is not JSON or origin is not None:
            return (("Content-Type", content_type), *self.access.cors(origin))
        headers = self._json_headers.get(origin)
        if headers is None:
            headers = (("Content-Type", JSON), *self.access.cors(origin))
            self._json_headers[origin] = headers
        return headers

    def error(self, refused: Refused, headers: Mapping[str, str]) -> Response:
        """Return the response that says ``refused`` to a request with ``headers``."""
        return self._error(refused, self.access.origin_of(headers))

    def _error(self, refused: Refused, origin: str | None, *, coded: bool = False) -> Response:
        headers = self._headers(JSON, origin)
        if refused.status == 426:
            headers += (("Upgrade", "websocket"),)
        if refused.status == 401:
            headers += (("WWW-Authenticate", "Bearer"),)
        if refused.retry_after is not None:
            headers += (("Retry-After", str(refused.retry_after)),)
        return Response(refused.status, headers, encode(error_reply(refused, coded=coded)))

    def _wrong_method(self, match: Match, origin: str | None) -> Response:
        response = self._error(errors.METHOD_NOT_ALLOWED.refuse(), origin)
        allowed = {*match.methods, "OPTIONS"}
        if _head_route(match):
            allowed.add("HEAD")
        return response._replace(headers=(*response.headers, ("Allow", ", ".join(sorted(allowed)))))


_GET_ONLY: frozenset[object] = TAKES | {"events", "websocket"}
"""What HEAD does not stand for: a job would be taken, a stream would be opened."""

_STREAM = (("Cache-Control", "no-cache"), ("X-Accel-Buffering", "no"))
"""No proxy may hold events back."""

_DOCS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "frame-ancestors 'none'"),
)
"""What a page cannot say of itself."""

_LITERAL = frozenset({401, 429})
"""Statuses whose answers the reference shows whole, whatever the route."""

_BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/]*")


def _origin_form(path: str) -> str:
    """Return the path without scheme and host, which a client may send as if we were a proxy (RFC 9112, 3.2.2).

    Raises:
        Refused: it is no path at all.
    """
    if path.startswith("/") or path == "*":
        return path
    scheme_and_host = _SCHEME.match(path)
    if scheme_and_host is None:
        raise errors.MALFORMED_REQUEST.refuse()
    return path[scheme_and_host.end() :] or "/"


def _head_route(match: Match) -> Route | None:
    """Return what HEAD answers like: GET, except where GET takes a job."""
    route = match.methods.get("GET")
    return None if route is None or route.target in _GET_ONLY else route
