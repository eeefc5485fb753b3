"""HTTP to a test's server, for clients without a loop: requests of httpx, without a socket."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import trio

from bunqueue_trio.api.call import Response
from bunqueue_trio.api.downloads import Download
from bunqueue_trio.api.event_stream import EventFeed
from bunqueue_trio.api.gateway import Gateway
from bunqueue_trio.protocol.standin import Awaited
from bunqueue_trio.testing.across import Gone, Home
from bunqueue_trio.testing.idle import Idle
from bunqueue_trio.testing.lives import Lives

_ON_THE_LOOP = (
    "a client without a loop blocks, and it is called on the loop that has to answer it: "
    "use bunqueue_trio.Client, or call it in a thread, by trio.to_thread.run_sync"
)


class Transport(httpx.BaseTransport):
    """Sends requests to the server that lives at that moment; times out in its time."""

    def __init__(self, home: Home, lives: Lives, idle: Idle) -> None:
        self._home = home
        self._lives = lives
        self._idle = idle

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer ``request``; see httpx."""
        body = request.read()
        status, headers, content = self.ask(self._answer, request, body)
        if not isinstance(content, bytes):
            return httpx.Response(status, headers=headers, stream=_Stream(self, content))
        return httpx.Response(status, headers=headers, content=content)

    def ask(self, function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        """Run an async function on the server's loop, and wait for it; virtual time goes on meanwhile.

        Raises:
            RuntimeError: this is that loop.
            httpx.ConnectError: it is over.
        """
        if self._home.is_here:
            raise RuntimeError(_ON_THE_LOOP)

        async def asked() -> Any:
            with self._idle.asking():
                return await function(*arguments)

        try:
            return self._home.call_blocking(asked)
        except Gone as gone:
            raise httpx.ConnectError(str(gone)) from None

    async def wait_change(self, seconds: float) -> str | None:
        """Wait between two looks at a job until something changes; return the reason when another look would be useless."""
        with (
            trio.move_on_after(seconds) as scope,
            self._idle.resting(scope),
            self._idle.waiting(awaited := Awaited(scope)),
        ):
            await self._lives.changed.wait()
        return awaited.stuck

    async def within(self, limit_s: float | None, answer: Callable[[], Awaitable[Any]]) -> Any:
        """Return what ``answer`` does, unless the connection is cut or the time is over.

        Raises:
            httpx.TransportError: it is.
        """
        cuts, result = self._lives.cuts, None
        with trio.move_on_after(float("inf") if limit_s is None else limit_s) as limit:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_at, cuts, nursery.cancel_scope)
                result = await answer()
                nursery.cancel_scope.cancel()
        if limit.cancelled_caught:
            raise httpx.ReadTimeout("timed out")
        if result is None:
            raise httpx.ReadError("the connection was cut")
        return result

    async def _answer(self, request: httpx.Request, body: bytes) -> tuple[int, list[tuple[str, str]], Any]:
        server = self._lives.server
        if server is None:
            raise httpx.ConnectError("the server is down")
        gateway = Gateway(server)
        headers = {name.lower(): value for name, value in request.headers.items()}
        call = gateway.resolve(request.method, request.url.raw_path.decode("ascii"), headers)
        limit_s = request.extensions.get("timeout", {}).get("read")
        response: Response = await self.within(limit_s, lambda: gateway.respond(call, body))
        if response.delivery is not None:
            response.delivery.sent()
        return response.status, [*response.headers], response.body


class _Stream(httpx.SyncByteStream):
    def __init__(self, transport: Transport, events: EventFeed | Download) -> None:
        self._transport = transport
        self._events = events

    def __iter__(self) -> Iterator[bytes]:
        while True:
            chunk = self._transport.ask(self._next)
            if not chunk:
                return
            yield chunk

    def close(self) -> None:
        self._transport.ask(self._events.aclose)

    async def _next(self) -> bytes:
        async def next_chunk() -> bytes:
            return await anext(self._events, b"")

        chunk: bytes = await self._transport.within(None, next_chunk)
        return chunk


async def _cancel_at(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
