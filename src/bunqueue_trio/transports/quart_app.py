"""The Quart-Trio application: it carries requests to the gateway and responses back."""

from quart import Response as QuartResponse
from quart import request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from bunqueue_trio import errors
from bunqueue_trio.runtime.tree import Server
from bunqueue_trio.transports.gateway import Gateway, Request


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
        headers = {name.lower(): value for name, value in request.headers.items()}
        response = await gateway.respond(
            Request(request.method, f"{raw}?{query}" if query else raw, headers, read_body)
        )
        answer = QuartResponse(response.body, response.status)
        del answer.headers["Content-Type"]
        answer.headers.extend(response.headers)
        if response.status == 204:
            answer.headers.pop("Content-Length", None)
        return answer

    @app.errorhandler(HTTPException)
    async def refuse(error: HTTPException) -> QuartResponse:
        """Say what Quart itself refuses in the documented format."""
        response = gateway.error(errors.Refused(error.code or 400, error.name), {})
        return QuartResponse(response.body, response.status, dict(response.headers))

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
