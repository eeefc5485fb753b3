"""The Quart-Trio application: it carries requests to the gateway and responses back."""

import trio
from quart import Response as QuartResponse
from quart import request, websocket
from quart.wrappers.base import BaseRequestWebsocket
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from bunqueue_trio import errors
from bunqueue_trio.runtime.tree import Server
from bunqueue_trio.transports.gateway import Gateway, Request
from bunqueue_trio.transports.session import Session
from bunqueue_trio.transports.sse import EventStream


def headers_of(message: BaseRequestWebsocket) -> dict[str, str]:
    """Return the headers by lower-case name; repeated ones joined as HTTP says."""
    headers: dict[str, str] = {}
    for name, value in message.headers.items():
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return headers


def make_app(server: Server, gateway: Gateway) -> QuartTrio:
    """Return the application that serves ``server`` over ASGI."""
    app = QuartTrio("bunqueue_trio", static_folder=None)
    # The gateway bounds bodies and answers in its own words; a long poll may take a minute.
    app.config["MAX_CONTENT_LENGTH"] = None
    app.config["RESPONSE_TIMEOUT"] = None
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False

    @app.before_request
    async def answer() -> QuartResponse:
        """Answer every request before Quart looks for a route of its own."""
        raw = request.scope["raw_path"].decode("latin-1")
        query = request.scope["query_string"].decode("latin-1")
        response = await gateway.respond(
            Request(request.method, f"{raw}?{query}" if query else raw, headers_of(request), read_body)
        )
        read_to_end = await skip_body(server.settings.body_max_bytes)
        answer = QuartResponse(response.body, response.status)
        if isinstance(response.body, EventStream):
            answer.timeout = None  # a stream ends when its reader or the server does
        del answer.headers["Content-Type"]
        answer.headers.extend(response.headers)
        if not read_to_end:
            answer.headers["Connection"] = "close"
        if response.status == 204:
            answer.headers.pop("Content-Length", None)
        return answer

    @app.before_websocket
    async def talk() -> QuartResponse | None:
        """Carry a WebSocket to a session until either side ends it."""
        raw = websocket.scope["raw_path"].decode("latin-1")
        try:
            queue = gateway.admit_websocket(raw, headers_of(websocket))
        except errors.Refused as refused:
            response = gateway.error(refused, headers_of(websocket))
            return QuartResponse(response.body, response.status, dict(response.headers))
        await websocket.accept()
        with Session(server, gateway, queue, vouched=False) as session:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send_outgoing, session)
                while True:
                    message = await websocket.receive()
                    session.receive(message.encode() if isinstance(message, str) else message, nursery)
                    await session.wait_room()

    async def send_outgoing(session: Session) -> None:
        while not server.hub.closed:
            for message in session.outgoing():
                await websocket.send(message.decode())
            await session.bell.wait()
        await websocket.close(1001, "server is shutting down")

    @app.errorhandler(HTTPException)
    async def refuse(error: HTTPException) -> QuartResponse:
        """Say what Quart itself refuses in the documented format."""
        response = gateway.error(errors.Refused(error.code or 400, error.name), {})
        return QuartResponse(response.body, response.status, dict(response.headers))

    async def skip_body(limit: int) -> bool:
        """Read what the gateway left of the body, within reason; return whether that was all.

        A client in the middle of sending would meet a reset instead of its answer.
        """
        size = 0
        async for chunk in request.body:
            size += len(chunk)
            if size > limit:
                return False
        return True

    async def read_body(limit: int) -> bytes:
        if (request.content_length or 0) > limit:
            raise errors.BODY_TOO_LARGE.refuse()
        chunks, size = [], 0
        async for chunk in request.body:
            size += len(chunk)
            if size > limit:
                raise errors.BODY_TOO_LARGE.refuse()
            chunks.append(chunk)
        return b"".join(chunks)

    return app
