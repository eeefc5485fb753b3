"""One HTTP request, whatever carried it: checks, route, command, response. No sockets, no framework.

The order of the checks is the documented one: OPTIONS, open routes, rate limit, authentication, route,
body. Both ways in (Quart behind Hypercorn, and the express lane) call :meth:`Gateway.respond`.
"""

import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import structlog

from bunqueue_trio import errors
from bunqueue_trio.config import CLIENT_KEY_MAX
from bunqueue_trio.errors import Refused, StoreError
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.codec import decode, encode
from bunqueue_trio.protocol.replies import ErrorReply, Reply
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


class Request(NamedTuple):
    """A request: ``target`` is path and query as sent, header names are lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    read_body: ReadBody
    wait: Wait | None = None
    """None: the carrier cancels the request when its client is gone."""


class Response(NamedTuple):
    """A response; Content-Length and Date are the carrier's.

    ``delivery`` is the reply to a pull: what the carrier must give back if it cannot send it.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes | EventStream
    delivery: Reply | None = None


class Gateway:
    """Answers requests for a server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._core = server.core
        settings = server.settings
        self._router = Router(ROUTES)
        self._tokens = [token.encode() for token in settings.auth_tokens]
        self._origins = settings.cors_allow_origin
        self._body_max = settings.body_max_bytes
        self._json_headers: dict[str | None, tuple[tuple[str, str], ...]] = {}
        self._fixed_cors = len(self._origins) == 1

    async def respond(self, request: Request) -> Response:
        """Return the response to ``request``; only cancellation and broken invariants get past it."""
        origin = None if self._fixed_cors else request.headers.get("origin")
        try:
            return await self._respond(request, origin)
        except Refused as refused:
            return self._error(refused, origin)
        except StoreError as error:  # a finished job could not be read
            _log.error("read failed", error=str(error))
            return self._error(errors.STORAGE_DOWN.refuse(), origin)

    async def _respond(self, request: Request, origin: str | None) -> Response:
        method = request.method
        if method == "OPTIONS":
            return Response(204, (*self.cors(origin), *_PREFLIGHT), b"")
        path, _, query = _origin_form(request.target).partition("?")
        match = self._admitted(request, path)
        route = match.methods.get(method) or (_head_route(match) if method == "HEAD" else None)
        if route is None:
            return self._wrong_method(match, origin)
        if route.target == "events":
            return self._events(match, request, origin)
        if route.target == "websocket":
            raise errors.UPGRADE_REQUIRED.refuse()
        if isinstance(route.target, str):
            content_type, body, status = await make_page(route.target, self._server)
            return Response(status, self._headers(content_type, origin), body)
        return await self._run(route, match, request, query, origin)

    def _admitted(self, request: Request, path: str) -> Match:
        """Return where ``path`` leads, after rate limit and authentication, if it asks for them.

        Raises:
            Refused: 429, 401, or what is wrong with the path.
        """
        match = _match_or_refusal(self._router, path)
        is_open = isinstance(match, Match) and any(route.open for route in match.methods.values())
        if not is_open:
            self.admit(request.headers, anonymous=self._is_anonymous(match, request.method))
        if isinstance(match, Refused):
            raise match
        if match is None:
            raise errors.NOT_FOUND.refuse()
        return match

    async def _run(self, route: Route, match: Match, request: Request, query: str, origin: str | None) -> Response:
        kind: Any = route.target
        if route.method == "GET":
            body = query_object(query) if query else b"{}"
        else:
            body = await request.read_body(self._body_max)
            if not body and route.optional_body:
                body = b"{}"
        command = decode(kind, body, **match.values)
        if kind is c.Ping or kind is c.Stats:
            content_type, body, status = INSTANT[kind.__name__.lower()](self._server)
            return Response(status, self._headers(content_type, origin), body)
        begun = self._core.begin(command)
        reply = begun.reply
        if begun.polls and request.wait is not None:
            reply = await request.wait(self._core.finish, begun)
        elif begun.polls or begun.epoch:
            reply = await self._core.finish(begun)
        delivery = reply if kind is c.Pull or kind is c.PullBatch else None
        return Response(200, self._headers(JSON, origin), encode(reply), delivery)

    def _events(self, match: Match, request: Request, origin: str | None) -> Response:
        queue = match.values.get("queue")
        if queue is not None:
            self._core.check_queue(queue)
        after = parse_event_id(request.headers.get("last-event-id"))
        headers = self._headers("text/event-stream", origin)
        return Response(200, (*headers, *_STREAM), EventStream(self._server, queue, after))

    def admit_websocket(self, target: str, headers: Mapping[str, str]) -> str | None:
        """Check a WebSocket handshake; return the queue whose events it is for, None for all.

        Raises:
            Refused: as for any other request; 404 when the path is not a WebSocket's.
        """
        self.admit(headers)
        match = self._router.match(target.partition("?")[0])
        route = match.methods.get("GET") if match is not None else None
        if match is None or route is None or route.target != "websocket":
            raise errors.NOT_FOUND.refuse()
        queue = match.values.get("queue")
        if queue is not None:
            self._core.check_queue(queue)
        return queue

    def _is_anonymous(self, match: Match | Refused | None, method: str) -> bool:
        """Return whether the request is counted against the limit but needs no token."""
        if not isinstance(match, Match):
            return False
        route = match.methods.get("GET" if method == "HEAD" else method)
        return route is not None and not route.asks_for_token(metrics_auth=self._server.settings.metrics_auth)

    def admit(self, headers: Mapping[str, str], *, anonymous: bool = False) -> None:
        """Count a request against its client's limit and check its token, unless it is ``anonymous``.

        Raises:
            Refused: 429 or 401.
        """
        limiter = self._server.limiter
        if limiter.enabled:
            wait_ms = limiter.retry_after_ms(client_key(headers), self._core.clock.now())
            if wait_ms:
                raise Refused(*errors.RATE_LIMITED, retry_after=-(-wait_ms // 1000))
        if not anonymous and not self.is_authorized(headers.get("authorization", "")):
            raise errors.UNAUTHORIZED.refuse()

    def is_authorized(self, authorization: str) -> bool:
        """Return whether the value of an Authorization header holds one of the tokens."""
        if not self._tokens:
            return True
        scheme, _, token = authorization.partition(" ")
        return scheme.lower() == "bearer" and self.is_token(token.strip())

    def is_token(self, token: str) -> bool:
        """Return whether ``token`` is one of the tokens, in a time that does not tell which.

        Without configured tokens any will do.
        """
        if not self._tokens:
            return True
        try:
            given = token.encode("latin-1")  # how header bytes become text
        except UnicodeEncodeError:
            given = token.encode("utf-8", "surrogatepass")
        matches = [hmac.compare_digest(given, known) for known in self._tokens]
        return any(matches)

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
        return self._error(refused, None if self._fixed_cors else headers.get("origin"))

    def _error(self, refused: Refused, origin: str | None) -> Response:
        headers = self._headers(JSON, origin)
        if refused.status == 426:
            headers += (("Upgrade", "websocket"),)
        if refused.status == 401:
            headers += (("WWW-Authenticate", "Bearer"),)
        if refused.retry_after is not None:
            headers += (("Retry-After", str(refused.retry_after)),)
        return Response(refused.status, headers, encode(ErrorReply(error=str(refused))))

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

_PREFLIGHT = (
    ("Access-Control-Allow-Methods", "GET, POST, PUT, DELETE, OPTIONS"),
    ("Access-Control-Allow-Headers", "Content-Type, Authorization"),
    ("Access-Control-Max-Age", "86400"),
)


def _origin_form(target: str) -> str:
    """Return the target without scheme and host, which a client may send as if we were a proxy."""
    if target.startswith("/"):
        return target
    _, _, rest = target.partition("://")
    return rest[rest.find("/") :] if "/" in rest else "/"


def _match_or_refusal(router: Router, path: str) -> Match | Refused | None:
    """Match now, but let a broken path be refused only after rate limit and authentication."""
    try:
        return router.match(path)
    except Refused as refused:
        return refused


def _head_route(match: Match) -> Route | None:
    """Return what HEAD answers like: GET, except where GET takes a job."""
    route = match.methods.get("GET")
    return None if route is None or route.target in _GET_ONLY else route


def client_key(headers: Mapping[str, str]) -> str:
    """Return the address that a proxy says the request comes from, or ``unknown``."""
    for value in (headers.get("x-forwarded-for", "").split(",")[0], headers.get("x-real-ip", "")):
        if address := value.strip():
            return address[:CLIENT_KEY_MAX]
    return "unknown"
