"""One HTTP request, whatever carried it: checks, route, command, response. No sockets, no framework.

The order of the checks is the documented one: OPTIONS, open routes, rate limit, authentication, route,
body. Both ways in (Quart behind Hypercorn, and the express lane) call :meth:`Gateway.respond`.
"""

import functools
import hashlib
import hmac
import ipaddress
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import structlog
import trio

from bunqueue_trio import errors
from bunqueue_trio.config import CLIENT_KEY_MAX, LARGE_BODY_BYTES, SMALL_BODY_BYTES
from bunqueue_trio.errors import Refused, StoreError
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.catalog import CODED, FILLS, SESSION, TAKES
from bunqueue_trio.protocol.codec import decode, encode
from bunqueue_trio.protocol.replies import Reply, error_reply, payload_size
from bunqueue_trio.runtime.core import Begun
from bunqueue_trio.runtime.tree import Server
from bunqueue_trio.transports.pages import INSTANT, make_page
from bunqueue_trio.transports.routes import ROUTES, Match, Route, Router, query_object
from bunqueue_trio.transports.sse import EventStream, parse_event_id

_log = structlog.get_logger()

JSON = "application/json"

ReadBody = Callable[[int], Awaitable[bytes]]
"""Reads the request's body of at most so many bytes, or raises ``Refused`` (413)."""


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


class Response(NamedTuple):
    """A response; Content-Length and Date are the carrier's.

    ``delivery`` is the reply to a pull: what the carrier must give back if it cannot send it.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes | EventStream
    delivery: Reply | None = None
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
        self._tokens = [_digest(token.encode()) for token in settings.auth_tokens]
        self._origins = settings.cors_allow_origin
        self._body_max = settings.body_max_bytes
        self._json_headers: dict[str | None, tuple[tuple[str, str], ...]] = {}
        self._fixed_cors = len(self._origins) == 1

    def resolve(self, method: str, target: str, headers: Mapping[str, str]) -> Call:
        """Return what is asked for; ``target`` is path and query as sent, header names are lower case.

        It refuses nothing: that is for :meth:`respond`, each time anew.
        """
        path, _, query = target.partition("?")
        match = self._match(path, "GET" if method == "HEAD" else method)
        route, is_open, needs_token, is_foreign = None, False, True, False
        if isinstance(match, Match):
            route = match.methods.get(method) or (_head_route(match) if method == "HEAD" else None)
            is_open = any(route.open for route in match.methods.values())
            asked = match.methods.get("GET" if method == "HEAD" else method)
            needs_token = asked is None or asked.asks_for_token(metrics_auth=self._server.settings.metrics_auth)
            if "*" not in self._origins:
                is_foreign = self._is_foreign(headers, is_page=asked is not None and asked.auth == "never")
            if headers.get("content-encoding", "identity").lower() != "identity" and method not in _BODILESS:
                match = errors.UNKNOWN_CONTENT_CODING.refuse()
        return Call(
            method, match, route, query, is_open,
            may_enter=not is_foreign
            and (not needs_token or self.is_authorized(headers.get("authorization", ""))),
            client=client_key(headers),
            origin=self._origin_of(headers),
            last_event_id=headers.get("last-event-id"),
            is_foreign=is_foreign,
            allowed_headers=_allowed_headers(headers) if method == "OPTIONS" else "",
        )  # fmt: skip

    async def respond(self, call: Call, body: bytes | ReadBody, wait: Wait | None = None) -> Response:
        """Return the response to ``call``; only cancellation and broken invariants get past it.

        Without ``wait`` the carrier cancels a request whose client is gone.
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
            return Response(204, (*self.cors(call.origin), *_preflight(call.allowed_headers)), b"")
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
            self._core.check_room(kind)  # early: a flood must not be read and decoded just to be refused
            if not isinstance(body, bytes):
                body = await body(self._body_max)
        if len(body) > SMALL_BODY_BYTES:
            await self._wait_turn_of(kind, len(body))
        if kind in SESSION:
            decode(kind, body)
            content_type, body, status = INSTANT[kind.__name__.lower()](self._server)
            return Response(status, self._headers(content_type, origin), body)
        begun = self._begin(kind, body, route, match)
        reply = begun.reply
        if begun.polls and wait is not None:
            reply = await wait(self._core.finish, begun)
        elif begun.polls or begun.epoch:
            reply = await self._core.finish(begun)
        if not self._server.buffers.fits(payload_size(reply)):  # before it is copied: that is what costs
            self._core.give_back(reply)
            raise Refused(*errors.BUFFERS_FULL, retry_after=1)
        delivery = reply if kind in TAKES else None
        return Response(200, self._headers(JSON, origin), encode(reply), delivery)

    async def wait_turn(self) -> None:
        """Wait in line with a large request that is no push: in a round of all tasks one is worked on."""
        async with self._turn:
            pass

    async def _wait_turn_of(self, kind: type[c.Command], size: int) -> None:
        if kind in FILLS:
            if self._core.journal.takes_turns(size):
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
        is_shared = name.startswith("docs")
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

    def is_authorized(self, authorization: str) -> bool:
        """Return whether the value of an Authorization header holds one of the tokens."""
        if not self._tokens:
            return True
        scheme, _, token = authorization.partition(" ")
        # Header bytes become text as latin-1; a proxy of the ASGI kind may have made it of something else.
        return scheme.lower() == "bearer" and self._is_token(token.strip().encode("latin-1", "replace"))

    def is_token(self, token: str) -> bool:
        """Return whether ``token`` is one of the tokens, in a time that does not tell which.

        Without configured tokens any will do.
        """
        return not self._tokens or self._is_token(token.encode("utf-8", "surrogatepass"))

    def _is_token(self, token: bytes) -> bool:
        given = _digest(token)  # the time to compare these tells neither a token nor its length
        matches = [hmac.compare_digest(given, known) for known in self._tokens]
        return any(matches)

    def _is_foreign(self, headers: Mapping[str, str], *, is_page: bool) -> bool:
        """Return whether a browser asks for a page of somebody else; other clients say no origin.

        ``is_page``: a link from elsewhere may lead there.
        """
        origin = headers.get("origin")
        if origin is None:
            return headers.get("sec-fetch-site") == "cross-site" and not is_page
        own = headers.get("host", "").lower()
        return origin not in self._origins and origin.lower().partition("://")[2] != own

    def cors(self, origin: str | None) -> tuple[tuple[str, str], ...]:
        """Return the CORS headers for a page of ``origin`` (None: not sent, or one rule for all)."""
        if self._fixed_cors:
            return (("Access-Control-Allow-Origin", self._origins[0]),)
        if "*" in self._origins:
            return (("Access-Control-Allow-Origin", "*"),)
        if origin in self._origins and origin is not None:
            return (("Access-Control-Allow-Origin", origin), ("Vary", "Origin"))
        return (("Vary", "Origin"),)

    def _headers(self, content_type: str, origin: str | None) -> tuple[tuple[str, str], ...]:
        if content_type is not JSON or origin is not None:
            return (("Content-Type", content_type), *self.cors(origin))
        headers = self._json_headers.get(origin)
        if headers is None:
            headers = (("Content-Type", JSON), *self.cors(origin))
            self._json_headers[origin] = headers
        return headers

    def error(self, refused: Refused, headers: Mapping[str, str]) -> Response:
        """Return the response that says ``refused`` to a request with ``headers``."""
        return self._error(refused, self._origin_of(headers))

    def _origin_of(self, headers: Mapping[str, str]) -> str | None:
        """Return the page that asks, if the answer depends on it."""
        return None if self._fixed_cors else headers.get("origin")

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


_GET_ONLY = (c.Pull, "events", "websocket")
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

_RESUMING = {"last-event-id": "Last-Event-ID", "cache-control": "Cache-Control"}
"""What readers of event streams ask for when they come back; who does not ask is told the documented two."""


def _preflight(allowed_headers: str) -> tuple[tuple[str, str], ...]:
    return (
        ("Access-Control-Allow-Methods", "GET, POST, PUT, DELETE, OPTIONS"),
        ("Access-Control-Allow-Headers", allowed_headers),
        ("Access-Control-Max-Age", "86400"),
    )


def _allowed_headers(headers: Mapping[str, str]) -> str:
    asked = {name.strip().lower() for name in headers.get("access-control-request-headers", "").split(",")}
    return ", ".join(["Content-Type, Authorization", *(_RESUMING[name] for name in _RESUMING if name in asked)])


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


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


def client_key(headers: Mapping[str, str]) -> str:
    """Return the address that a proxy says the request comes from, or ``unknown``."""
    for value in (headers.get("x-forwarded-for", "").split(",")[0], headers.get("x-real-ip", "")):
        if address := value.strip():
            return _one_spelling(address[:CLIENT_KEY_MAX])
    return "unknown"


@functools.lru_cache(maxsize=1024)
def _one_spelling(address: str) -> str:
    """Return an address as every proxy's way to write it: without port, brackets, ``for=`` and IPv4 in IPv6."""
    text = address.lower().removeprefix("for=").partition(";")[0].strip('" ')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return text or "unknown"
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)
