"""One HTTP request, whatever carried it: checks, route, command, response. No sockets, no framework.

The order of the checks is the documented one: OPTIONS, open routes, rate limit, authentication, route,
body. Both ways in (Quart behind Hypercorn, and the express lane) call :meth:`Gateway.respond`.
"""

import math
import re
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import parse_qs

import structlog
from msgspec.structs import replace

from bunqueue_trio import errors
from bunqueue_trio.api.access import ANYBODY, UNKNOWN, Access, Grant, allowed_headers, client_key, preflight
from bunqueue_trio.api.bulk import IsGone, LargeReader, ReadCommand
from bunqueue_trio.api.call import Call, Delivery, ReadBody, Response, Wait, sender
from bunqueue_trio.api.downloads import DOWNLOADS, JSON_LINES
from bunqueue_trio.api.event_stream import EventFeed, parse_event_id, parse_since, parse_types
from bunqueue_trio.api.logins import TICKET_MS, Logins, cookie_of
from bunqueue_trio.config import LARGE_BODY_BYTES, RECEIVE_BYTES, SMALL_BODY_BYTES
from bunqueue_trio.errors import Refused, StoreError
from bunqueue_trio.pages.table import ANSWERS, DOCS, make_page
from bunqueue_trio.protocol.caller import SERVER
from bunqueue_trio.protocol.catalog import ACTS, FILLS, TAKES
from bunqueue_trio.protocol.codec import NeedsParts, decode, encode
from bunqueue_trio.protocol.faults import error_reply
from bunqueue_trio.protocol.parts import PARTS_FROM
from bunqueue_trio.protocol.replies import Reply, payload_size
from bunqueue_trio.protocol.routes import ROUTES, Match, Route, Router, query_object, refuse_query
from bunqueue_trio.runtime.allowed import missing_role
from bunqueue_trio.runtime.begun import Begun
from bunqueue_trio.runtime.budget import Hold
from bunqueue_trio.runtime.server import Server

_log = structlog.get_logger()

JSON = "application/json"


class Gateway:
    """Answers requests for a server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._core = server.core
        self.large: LargeReader = LargeReader(server.core.journal)
        self._router = Router(ROUTES)
        self.access: Access = Access(server.settings)
        self.logins: Logins = Logins()
        self.cookie: str = f"bunqueue-{server.settings.http_port}"
        """The name of the login's cookie. It has the port in it: browsers keep the cookies of all ports of a machine together."""
        self._body_max = server.settings.body_max_bytes
        self._json_headers: dict[str | None, tuple[tuple[str, str], ...]] = {}

    def resolve(self, method: str, target: str, headers: Mapping[str, str]) -> Call:
        """Return the call that a request makes; ``target`` is path and query as sent, header names are lower case.

        It refuses nothing: that is for :meth:`respond`, each time anew.
        """
        access = self.access
        path, _, query = target.partition("?")
        match = self.find(path, "GET" if method == "HEAD" else method)
        if (
            path == "/"
            and method in _DOOR_METHODS
            and self._server.settings.ui
            and "text/html" in headers.get("accept", "")
        ):
            match = _DOOR
        route, is_open, needs_token, is_foreign = None, False, True, False
        if isinstance(match, Match):
            route = match.methods.get(method) or (_head_route(match) if method == "HEAD" else None)
            is_open = any(route.open for route in match.methods.values())
            asked = match.methods.get("GET" if method == "HEAD" else method)
            needs_token = asked is None or asked.asks_for_token(metrics_auth=self._server.settings.metrics_auth)
            is_foreign = access.is_foreign(headers, is_page=asked is not None and asked.auth == "never")
            if headers.get("content-encoding", "identity").lower() != "identity" and method not in _BODILESS:
                match = errors.UNKNOWN_CONTENT_CODING.refuse()
        grant = access.grant_of_header(headers.get("authorization", "")) if needs_token else ANYBODY
        call = Call(
            method, match, route, query, is_open, is_admitted=not is_foreign and grant is not None,
            client=client_key(headers),
            origin=access.origin_of(headers),
            last_event_id=headers.get("last-event-id"),
            is_foreign=is_foreign,
            allowed_headers=allowed_headers(headers) if method == "OPTIONS" else "",
            grant=grant or ANYBODY,
            lacks=route.role if route is not None and grant is not None and grant.role < route.role else None,
        )  # fmt: skip
        if call.is_admitted or route is None or not isinstance(route.target, str):
            return call
        return self._with_stand_ins(call, route.target, headers)

    def _with_stand_ins(self, call: Call, target: str, headers: Mapping[str, str]) -> Call:
        """Return ``call`` with the cookie or ticket that may stand for the missing token; it is checked when the call is let in."""
        if target in _TICKETED and "ticket=" in call.query:
            return call._replace(ticket=parse_qs(call.query).get("ticket", [""])[-1])
        if target == "ticket":
            cookie = cookie_of(headers.get("cookie", ""), self.cookie)
            return call._replace(cookie=cookie, csrf=headers.get("x-csrf-token", ""))
        return call

    async def respond(
        self, call: Call, body: bytes | ReadBody, wait: Wait | None = None, address: str = UNKNOWN,
        is_gone: IsGone | None = None,
    ) -> Response:  # fmt: skip
        """Return the response to ``call``, which comes from ``address``; only cancellation and broken invariants get past it.

        ``wait`` is called when a waiting pull begins to wait, ``is_gone`` when a large command has waited in line; without them the
        carrier cancels a request whose client is gone.
        """
        try:
            return await self._respond(call, body, wait, address, is_gone)
        except (Refused, StoreError) as error:
            return self.refusal(call, error)

    def may_begin(self, call: Call) -> bool:
        """Return whether ``call`` is for a command, which :meth:`begin` may take."""
        # A request with a route may still be refused because of its head.
        is_found = call.route is not None and isinstance(call.match, Match)
        return is_found and not isinstance(call.target, str) and call.target not in ANSWERS

    def begin(self, call: Call, body: bytes, address: str = UNKNOWN) -> Begun | Response | None:
        """Do the part of :meth:`respond` that waits for nothing, for a command that may begin and whose ``body`` is whole.

        What has begun goes on by :meth:`finish`, or :meth:`finish_nowait` when its batch is committed, it does not wait and
        is no bulk command that is half in. None: it would have to wait before anything, and nothing was done, nor counted.
        """
        route, match = call.route, call.match
        assert route is not None
        assert isinstance(match, Match)
        kind: Any = route.target
        if len(body) > SMALL_BODY_BYTES and self._has_to_wait(kind, len(body)):
            return None
        try:
            self._route(call)
            if route.method == "GET":
                body = query_object(call.query, kind) if call.query else b"{}"
            else:
                self._check_early(call, kind)
            return self._begin(call, route, match, body, address)
        except (Refused, StoreError) as error:
            return self.refusal(call, error)

    async def finish(self, call: Call, begun: Begun, wait: Wait) -> Response:
        """Return the response to what has begun, and waits or is half in, when it may be sent; ``wait`` as in :meth:`respond`."""
        try:
            if begun.bulk is not None:
                # Before anything that may be cancelled.
                await self._core.add_rest(begun)
            return self._reply(call, await wait(self._core.finish, begun))
        except (Refused, StoreError) as error:
            return self.refusal(call, error)

    def finish_nowait(self, call: Call, begun: Begun) -> Response:
        """Return the response to a command that is committed, or that has waited too long for it."""
        try:
            return self._reply(call, self._core.finish_nowait(begun) if begun.epoch else begun.reply)
        except Refused as refused:
            return self.refusal(call, refused)

    def refusal(self, call: Call, error: Refused | StoreError) -> Response:
        """Return the response that says why ``call`` was refused, or that a finished job could not be read."""
        if isinstance(error, Refused):
            return self._error(error, call.origin, call.target)
        _log.error("read failed", error=str(error))
        return self._error(errors.unread(error), call.origin)

    def _route(self, call: Call) -> Route | Response:
        """Return the row for ``call``, or the response where there is none.

        Raises:
            Refused: 429, 401, 403, 404, or what is wrong with the path.
        """
        if call.method == "OPTIONS":
            return Response(204, (*self.access.cors(call.origin), *preflight(call.allowed_headers)), b"")
        if not call.is_open:
            self.admit(call)
        if not isinstance(call.match, Match):
            raise call.match or errors.NOT_FOUND.refuse()
        if call.lacks is not None:
            raise missing_role(call.lacks, call.grant.role)
        return call.route or self._wrong_method(call.match, call.origin)

    async def _respond(
        self, call: Call, body: bytes | ReadBody, wait: Wait | None, address: str, is_gone: IsGone | None
    ) -> Response:
        route, match = self._route(call), call.match
        if isinstance(route, Response):
            return route
        assert isinstance(match, Match)
        kind: Any = route.target
        if isinstance(kind, str):
            return await self._page(kind, match, call)
        if route.method == "GET":
            # Nobody needs a body, but the lease of a job would run while its client still sends one.
            _ = body if isinstance(body, bytes) else await body(self._body_max)
            body = query_object(call.query, kind) if call.query else b"{}"
        else:
            self._check_early(call, kind)
            if not isinstance(body, bytes):
                body = await body(self._body_max)
        read = partial(decode, kind, **match.values)
        read_large = partial(self.large.read, kind, body, read, is_gone, fills=kind in FILLS)
        await self._wait_turn_with(kind, len(body))
        large = await read_large() if len(body) > PARTS_FROM else None
        if kind in ANSWERS:
            if large is None:
                decode(kind, body)
            content_type, body, status = ANSWERS[kind](self._server)
            return Response(status, self._headers(content_type, call.origin), body)
        try:
            with self._core.turns.alone(kind):
                begun = self._begin(call, route, match, large or body, address)
        except NeedsParts:
            large = await read_large()
            with self._core.turns.alone(kind):
                begun = self._begin(call, route, match, large, address)
        reply = begun.reply
        if begun.waits and wait is not None:
            reply = await wait(self._core.finish, begun)
        elif begun.waits or begun.epoch:
            reply = await self._core.finish(begun)
        return self._reply(call, reply)

    def _reply(self, call: Call, reply: Reply) -> Response:
        delivery = Delivery(self._core, reply) if call.target in TAKES else None
        try:
            return self.say(call, reply, delivery)
        except (Refused, MemoryError):
            self._core.give_back(reply)
            raise

    def say(self, call: Call, reply: Reply, delivery: Delivery | None) -> Response:
        """Return the response that says ``reply``, and leave ``reply`` as it is; raise ``Refused`` where there is no room for it."""
        # Before it is copied: that is what costs.
        if (size := payload_size(reply)) > RECEIVE_BYTES:
            self._server.buffers.check(size)
        headers = self._json_headers.get(call.origin) or self._headers(JSON, call.origin)
        return Response(200, headers, encode(reply), delivery)

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
        """Wait in line with a large request that is no push."""
        await self._core.journal.half.turn()

    async def _wait_turn_with(self, kind: object, size: int) -> None:
        if size > SMALL_BODY_BYTES and self._has_to_wait(kind, size):
            await (self._core.journal.wait_turn() if kind in FILLS else self.wait_turn())

    def _check_early(self, call: Call, kind: Any) -> None:
        """Refuse, before its body is read and decoded, a request that would be refused anyway: a flood must not cost that."""
        refuse_query(call.query, kind)
        self._core.check_room(kind)

    def _has_to_wait(self, kind: object, size: int) -> bool:
        return self._core.journal.must_wait(size) if kind in FILLS else size > LARGE_BODY_BYTES

    def _begin(self, call: Call, route: Route, match: Match, body: bytes | ReadCommand, peer: str) -> Begun:
        kind: Any = route.target
        by = sender(call, peer) if kind in ACTS else SERVER
        command: Any
        if isinstance(body, ReadCommand):
            command, size = body
        else:
            size = len(body)
            most = math.inf if route.method == "GET" else LARGE_BODY_BYTES
            command = decode(
                kind, body or (b"{}" if route.optional_body else b""), route.optional_body, most, **match.values
            )
        if kind in TAKES:
            call.name_taker(command, peer)
        return self._core.begin(command, size=size, by=by, sliced=True)

    async def _page(self, name: str, match: Match, call: Call) -> Response:
        if name == "events":
            return self._events(match, call)
        if name in DOWNLOADS:
            feed = await DOWNLOADS[name](self._server, call.query).begun()
            return Response(200, (*self._headers(JSON_LINES, call.origin), *STREAM), feed, feed)
        if name == "websocket":
            raise errors.UPGRADE_REQUIRED.refuse()
        if name == "ticket":
            ticket = self.logins.new_ticket(self._grant_by_cookie(call) or call.grant, self._core.clock.now())
            body = encode({"ok": True, "ticket": ticket, "expiresIn": TICKET_MS})
            return Response(200, (*self._headers(JSON, call.origin), ("Cache-Control", "no-store")), body)
        # It is the slow lane's.
        if name == "ui":
            raise errors.NOT_FOUND.refuse()
        if name == "door":
            return Response(303, (("Location", "ui"), ("Vary", "Accept"), ("Cache-Control", "no-store")), b"")
        content_type, body, status = await make_page(name, self._server)
        headers = self._headers(content_type, call.origin)
        is_shared = name in DOCS
        return Response(status, (*headers, *_DOCS) if is_shared else headers, body, is_shared=is_shared)

    def _events(self, match: Match, call: Call) -> Response:
        queue = match.values.get("queue")
        if queue is not None:
            self._core.check_queue(queue)
        after, types = parse_event_id(call.last_event_id), parse_types(call.query)
        since = parse_since(call.query, self._core.clock.now())
        headers = self._headers("text/event-stream", call.origin)
        return Response(200, (*headers, *STREAM), EventFeed(self._server, queue, after, types, since))

    def find(self, path: str, method: str) -> Match | Refused | None:
        """Return where ``path`` leads. It has one reading, whoever asks: nobody else looks at a path.

        A refusal is returned, not raised: rate limit and authentication come first.
        """
        try:
            path = _origin_form(path)
            if path.startswith("/ui") and self._server.settings.ui and (path == "/ui" or path[3] == "/"):
                return _UI
            return self._router.match(path, method)
        except Refused as refused:
            return refused

    def admit_websocket(self, call: Call) -> tuple[str | None, Grant]:
        """Check a handshake for a WebSocket's route; return the queue whose events it is for (None: all), and what it may do.

        Raises:
            Refused: as for any other request.
        """
        grant = self.admit(call)
        assert isinstance(call.match, Match)
        queue = call.match.values.get("queue")
        if queue is not None:
            self._core.check_queue(queue)
        return queue, grant

    def admit(self, call: Call) -> Grant:
        """Count a request against its client's limit, and let it in if it may; return what it may do.

        Raises:
            Refused: 429, 403 or 401.
        """
        limiter = self._server.limiter
        if limiter.enabled:
            wait_ms = limiter.retry_after_ms(call.client, self._core.clock.now())
            if wait_ms:
                raise errors.RATE_LIMITED.refuse(retry_after=-(-wait_ms // 1000))
        if call.is_admitted:
            return call.grant
        if call.is_foreign:
            raise errors.FOREIGN_ORIGIN.refuse()
        # The cookie or ticket that may stand for the missing token.
        if call.ticket is not None:
            grant = self.logins.redeem(call.ticket, self._core.clock.now())
        else:
            grant = self._grant_by_cookie(call)
        if grant is None:
            raise errors.UNAUTHORIZED.refuse()
        return grant

    def _grant_by_cookie(self, call: Call) -> Grant | None:
        """Return what the login allows whose cookie comes from a page of ours."""
        login = self.logins.find(call.cookie, self._core.clock.now()) if call.cookie else None
        return login.grant if login is not None and self.logins.is_csrf(call.cookie, call.csrf) else None

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

    def _error(self, refused: Refused, origin: str | None, target: object = None) -> Response:
        headers = self._headers(JSON, origin) + _OF_STATUS.get(refused.status, ())
        if refused.retry_after is not None:
            headers += (("Retry-After", str(refused.retry_after)),)
        return Response(refused.status, headers, encode(error_reply(refused, target)))

    def _wrong_method(self, match: Match, origin: str | None) -> Response:
        response = self._error(errors.METHOD_NOT_ALLOWED.refuse(), origin)
        allowed = {*match.methods, "OPTIONS"}
        if _head_route(match):
            allowed.add("HEAD")
        return replace(response, headers=(*response.headers, ("Allow", ", ".join(sorted(allowed)))))


_UI = Match({"GET": Route("GET", "/ui", "ui", auth="never"), "POST": Route("POST", "/ui", "ui", auth="never")}, {})
"""Where everything below ``/ui`` leads; the dashboard has a table of its own."""

_DOOR = Match({"GET": Route("GET", "/", "door", auth="never")}, {})
"""Where a browser is led from ``/``; for all others there is nothing at that path."""

_OF_STATUS = {401: (("WWW-Authenticate", "Bearer"),), 426: (("Upgrade", "websocket"),)}
_DOOR_METHODS = frozenset({"GET", "HEAD"})

_TICKETED = frozenset({"events", "websocket"})

_GET_ONLY: frozenset[object] = TAKES | DOWNLOADS.keys() | {"events", "websocket"}
"""The routes that HEAD may not ask in place of GET: a job would be taken, a stream would be opened."""

STREAM = (("Cache-Control", "no-cache"), ("X-Accel-Buffering", "no"))
"""No proxy may hold events back."""

_DOCS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "frame-ancestors 'none'"),
)
"""Headers that a page of HTML cannot set for itself."""


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
