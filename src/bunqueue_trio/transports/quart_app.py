"""The Quart-Trio application: it carries requests to the gateway, sockets to sessions, answers back."""

from collections.abc import Awaitable, Callable
from typing import Any

import h11
import structlog
import trio
from quart import Response as QuartResponse
from quart import request, websocket
from quart.wrappers.base import BaseRequestWebsocket
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, NotFound, RequestEntityTooLarge

from bunqueue_trio import errors
from bunqueue_trio.api.call import Call, Response, Wait, sender
from bunqueue_trio.api.downloads import BrokenOff
from bunqueue_trio.api.event_stream import EventFeed
from bunqueue_trio.api.gateway import Gateway
from bunqueue_trio.api.page_news import PageNews
from bunqueue_trio.api.session import Session
from bunqueue_trio.config import (
    BODY_TIMEOUT_S,
    FINAL_SEND_S,
    LINGER_S,
    RECEIVE_BYTES,
    SESSION_SEND_BYTES,
    WRITE_TIMEOUT_S,
)
from bunqueue_trio.errors import leaves
from bunqueue_trio.protocol.replies import Reply
from bunqueue_trio.protocol.request import MESSAGE_MAX_HEADER
from bunqueue_trio.runtime.begun import Begun
from bunqueue_trio.runtime.budget import Budget
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.transports.frames import is_goodbye
from bunqueue_trio.transports.hypercorn_websocket import CLOSE_CODE, GONE, GOODBYE, Goodbye
from bunqueue_trio.transports.upgrade import check_handshake, joined, wants_upgrade
from bunqueue_trio.ui.dashboard import Dashboard

_log = structlog.get_logger()

AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]

# In a scope: is called when the request begins to last, as a waiting pull or a stream of events: who says no more gets nothing more of it.
LASTS = "bunqueue.lasts"
# In a scope: is called when nobody misses the rest of the answer if its connection makes room for others, or the server stops.
SPARES = "bunqueue.spares"
# In a scope: returns whether what was sent could not leave, of which Hypercorn says nothing.
IS_BROKEN = "bunqueue.is-broken"
# In the state of a scope: returns whether the host of the application stops.
HOST_STOPS = "bunqueue.host-stops"
_GOING_AWAY = 1001
# In a scope: of the bodies of its request and response.
_HOLD = "bunqueue.hold"
# The last one under a host that speaks it.
_HTTP_VERSIONS = frozenset({"1.0", "1.1", "2"})
# In a scope: the jobs of a pull, until its response is sent.
_DELIVERY = "bunqueue.delivery"
# In a scope: somebody has begun to read the body.
_READ = "bunqueue.read"
_BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})


def make_app(server: Server, gateway: Gateway, *, hosted: bool = False) -> QuartTrio:
    """Return the application that serves ``server`` over ASGI; ``hosted``: by a host that owns the sockets."""
    app = QuartTrio("bunqueue_trio", static_folder=None)
    # Of a body that nobody reads, Quart keeps so much; the gateway bounds what is read, in its own words.
    app.config["MAX_CONTENT_LENGTH"] = server.settings.body_max_bytes
    # A waiting pull may take a minute.
    app.config["RESPONSE_TIMEOUT"] = None
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    dashboard = Dashboard(server, gateway)

    @app.before_request
    async def answer() -> QuartResponse:
        """Answer every request before Quart looks for a route of its own."""
        # Quart has looked for a route and found none: that traceback would keep this request until a rare full collection.
        request.routing_exception = NotFound()
        call = _call(gateway, request)
        try:
            _check(gateway, call)
        except errors.Refused as refused:
            return _quart_response(gateway.error(refused, joined(request.headers.items())), close=True)
        scope: Any = request.scope
        lasts = scope.get(LASTS, bool)

        response = await _respond(gateway, dashboard, call, _waiting(lasts))
        if isinstance(response.body, EventFeed | PageNews):
            lasts()
        if isinstance(response.body, PageNews):
            scope.get(SPARES, bool)()
        scope[_DELIVERY] = response.delivery
        # Nobody told the client to send a body that was not read: it may come, or the next request.
        waits = "expect" in request.headers and _READ not in request.scope
        return _quart_response(response, close=waits or not await _skip_body(server.settings.body_max_bytes))

    @app.before_websocket
    async def talk() -> QuartResponse | None:
        """Carry a WebSocket to a session until either side ends it."""
        # See above.
        websocket.routing_exception = NotFound()
        try:
            call = _call(gateway, websocket)
            if call.target != "websocket":
                raise errors.NOT_FOUND.refuse()
            queue, grant = gateway.admit_websocket(call)
        except errors.Refused as refused:
            return _quart_response(gateway.error(refused, joined(websocket.headers.items())), close=True)
        try:
            # A host has a limit of its own, which nobody tells us.
            await websocket.accept({} if hosted else {MESSAGE_MAX_HEADER: str(server.settings.body_max_bytes)})
        except h11.LocalProtocolError:
            # It asked for something else in the same breath: nothing can be said any more.
            return None
        address = sender(call, _peer(websocket.scope)).address
        scope: Any = websocket.scope
        scope[GOODBYE] = None
        with Session(server, gateway, queue, vouched=False, grant=grant, address=address) as session:
            try:
                await _carry(server, session)
            finally:
                _note_end(session, scope)
        return None

    @app.errorhandler(HTTPException)
    async def refuse(error: HTTPException) -> QuartResponse:  # noqa: ASYNC124 - Quart runs sync ones in a thread
        """Say what Quart itself refuses in the documented format."""
        status = error.code or 400
        fault = errors.MALFORMED_REQUEST if status < 500 else errors.INTERNAL_ERROR
        return _quart_response(gateway.error(errors.Refused(status, error.name, fault.code), {}))

    app.asgi_app = _shielded(app.asgi_app, server.buffers, hosted=hosted)  # type: ignore[method-assign, assignment]  # Quart's own way in for middleware
    return app


def _shielded(app: AsgiApp, buffers: Budget, *, hosted: bool) -> AsgiApp:
    """Wrap ``app`` so that the final send outlives a cancellation for a moment, and what a request holds is given back.

    The body of a request that needs none is thrown away as it comes.

    The final send tells Quart-Trio that the request is over, which then cancels the task that is still in it:
    Hypercorn would never get to closing the connection, or to its keep-alive timer. The shield has an end: under a
    host that speaks HTTP/2 the client may never open its window.
    """

    async def shielded(scope: Any, receive: Any, send: Any) -> None:
        # Quart stumbles over some; only the raw path is read.
        scope["path"] = "/"

        async def send_noting(message: Any) -> None:
            await send(message)
            delivery = scope.get(_DELIVERY)
            is_last = message["type"] == "http.response.body" and not message.get("more_body")
            if delivery is not None and is_last and not scope.get(IS_BROKEN, bool)():
                delivery.sent()

        async def send_shielded(message: Any) -> None:
            if message["type"] != "http.response.body" or message.get("more_body"):
                await _send_parts(send_noting, message)
                return
            # The keeper closes the sockets of those who do not read.
            if not hosted:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + WRITE_TIMEOUT_S):
                    await send_noting(message)
                return
            async with trio.open_nursery() as nursery:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + WRITE_TIMEOUT_S) as shield:
                    # It only sets the deadline, and outlives the scope by nothing.
                    nursery.start_soon(_limit_when_cancelled, shield)  # noqa: ASYNC111
                    await send_noting(message)
                nursery.cancel_scope.cancel()

        async def receive_no_body() -> Any:
            message = await receive()
            if message["type"] == "http.request":
                message["body"] = b""
            return message

        with buffers.hold() as scope[_HOLD]:
            # Quart would keep what is sent to a waiting pull, up to the limit of a body and outside of the budget.
            try:
                await _run(app, scope, receive_no_body if scope.get("method") in _BODILESS else receive, send_shielded)
            finally:
                delivery = scope.get(_DELIVERY)
                if delivery is not None:
                    delivery.end()

    return shielded


async def _send_parts(send: Callable[[Any], Awaitable[None]], message: Any) -> None:
    """Send a message to the host, or several for a large body: what copies it on its way does so in steps."""
    body = message.get("body", b"")
    if len(body) <= SESSION_SEND_BYTES:
        await send(message)
        return
    for start in range(0, len(body), SESSION_SEND_BYTES):
        await send(message | {"body": body[start : start + SESSION_SEND_BYTES]})


async def _run(app: AsgiApp, scope: Any, receive: Any, send: Any) -> None:
    try:
        await app(scope, receive, send)
    except* BrokenOff as broken:
        # The host cuts a response that has no end.
        _log.warning("a download broke off", error=str(leaves(broken)[0]))


async def _limit_when_cancelled(shield: trio.CancelScope) -> None:
    """Let ``shield`` end soon after the task around it is cancelled."""
    try:
        await trio.sleep_forever()
    finally:
        shield.deadline = min(shield.deadline, trio.current_time() + FINAL_SEND_S)


def _waiting(lasts: Callable[[], object]) -> Wait:
    """Return what waits for a command that has begun; a pull ``lasts`` from then on."""

    async def wait(finish: Callable[[Begun], Awaitable[Reply]], begun: Begun) -> Reply:
        if begun.is_pull:
            lasts()
        return await finish(begun)

    return wait


def _call(gateway: Gateway, message: BaseRequestWebsocket) -> Call:
    """Return what is asked for, by the bytes that came: Quart's own reading of them is not used."""
    scope: Any = message.scope
    raw, query = scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1")
    return gateway.resolve(
        scope.get("method", "GET"), f"{raw}?{query}" if query else raw, joined(message.headers.items())
    )


def _peer(scope: Any) -> str:
    """Return the address that the host of the application has of a client; of a Unix socket it has none."""
    client = scope.get("client")
    return str(client[0]).removeprefix("::ffff:") if client and client[0] else "unix"


async def _respond(gateway: Gateway, dashboard: Dashboard, call: Call, wait: Wait) -> Response:
    """Return the response of whoever answers this; its body is counted."""
    scope: Any = request.scope
    if call.target == "ui":
        target = f"{scope['raw_path'].decode('latin-1')}?{scope['query_string'].decode('latin-1')}"
        response = await dashboard.respond(call, target, joined(request.headers.items()), _read_body)
    else:
        response = await gateway.respond(call, _read_body, wait, _peer(scope))
    return gateway.count(response, scope[_HOLD])


def _check(gateway: Gateway, call: Call) -> None:
    """Raise ``Refused`` when the request cannot be read, and nothing that follows it on its connection."""
    headers = request.headers
    # h11 takes any number for one it knows.
    if request.http_version not in _HTTP_VERSIONS:
        raise errors.UNKNOWN_HTTP_VERSION.refuse()
    if "content-length" in headers and "transfer-encoding" in headers:
        # One of them is a lie, and what follows may be another's request (RFC 9112, 6.3).
        raise errors.AMBIGUOUS_LENGTH.refuse()
    if call.target == "websocket" and request.http_version == "1.1" and wants_upgrade(joined(request.headers.items())):
        gateway.admit_websocket(call)
        check_handshake(headers.items())
        # Without one it would not be a request.
        raise errors.HANDSHAKE_WITH_BODY.refuse()


def _quart_response(response: Response, *, close: bool = False) -> QuartResponse:
    answer = QuartResponse(response.body, response.status)
    if not isinstance(response.body, bytes):
        # A stream ends when its reader or the server does.
        answer.timeout = None
    del answer.headers["Content-Type"]
    answer.headers.extend(response.headers)
    if close:
        answer.headers["Connection"] = "close"
    if response.status == 204:
        answer.headers.pop("Content-Length", None)
    return answer


async def _read_body(limit: int) -> bytes:
    if (request.content_length or 0) > limit:
        raise errors.BODY_TOO_LARGE.refuse()
    # An application may add to it.
    scope: Any = request.scope
    scope[_READ] = True
    chunks, size, held = [], 0, 0
    with trio.move_on_after(BODY_TIMEOUT_S) as patience:
        try:
            async for chunk in request.body:
                size += len(chunk)
                if size > limit:
                    raise errors.BODY_TOO_LARGE.refuse()
                if size > RECEIVE_BYTES:
                    scope[_HOLD].grow(size - held)
                    held = size
                chunks.append(chunk)
        except RequestEntityTooLarge:
            # It came faster than it was read.
            raise errors.BODY_TOO_LARGE.refuse() from None
    if patience.cancelled_caught:
        raise errors.BODY_TOO_SLOW.refuse()
    return b"".join(chunks)


async def _skip_body(limit: int) -> bool:
    """Read what the gateway left of the body, within reason; return whether that was all.

    A client in the middle of sending would meet a reset instead of its answer.
    """
    size = 0
    with trio.move_on_after(LINGER_S):
        try:
            async for chunk in request.body:
                size += len(chunk)
                if size > limit:
                    return False
        except RequestEntityTooLarge:
            return False
        return True
    return False


def _note_end(session: Session, scope: Any) -> None:
    """Say how the connection of a session has ended."""
    if (goodbye := scope.pop(GOODBYE)) is not None:
        goodbye.over.set()
    session.dropped = not is_goodbye(scope.get(CLOSE_CODE, GONE))
    stops = scope.get("state", {}).get(HOST_STOPS)
    session.stopping = stops is not None and stops()


async def _carry(server: Server, session: Session) -> None:
    said: list[Goodbye] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_send_outgoing, server, session, said)
        while True:
            received = await websocket.receive()
            if isinstance(received, Goodbye):
                said.append(received)
                session.bell.ring()
                continue
            if server.hub.closed:
                # What is owed comes to an end, and then the connection.
                continue
            # Of an empty binary message it says nothing.
            message = received.encode() if isinstance(received, str) else received or b""
            await session.wait_turn(message)
            session.receive(message, nursery)
            await session.wait_room()


async def _send_outgoing(server: Server, session: Session, said: list[Goodbye]) -> None:
    while not (server.hub.closed and session.idle):
        # The peer may be gone: a send that failed does not say so.
        await trio.lowlevel.checkpoint_if_cancelled()
        messages = session.outgoing()
        for message in messages:
            await websocket.send(message.decode())
        if said and not session.owes:
            said[0].over.set()
        if not messages:
            await session.bell.wait()
    await websocket.close(_GOING_AWAY, "server is shutting down")
