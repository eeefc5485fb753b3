"""Hypercorn's HTTP/1.1, and nothing else on a connection: what it leaves out, or does in its own way, is put right here.

It speaks no HTTP/2 (nobody asks for it, and its answers would be outside of every budget and time limit), ignores
upgrades that nobody wants, leaves methods as they were written, gives responses a reason phrase, and lets a client
send its body only when somebody will read it.
"""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import h11
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.events import Request
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.trio.tcp_server import TCPServer

from bunqueue_trio.config import HEADER_BYTES_MAX
from bunqueue_trio.errors import Refused
from bunqueue_trio.transports.upgrade import check_handshake, joined

Judge = Callable[[str, str, dict[str, str]], tuple[bool, bool]]
"""Says of method, target and headers whether a WebSocket is wanted, and whether the body would be read."""


class _Connection(h11.Connection):
    """Forgets whatever follows a request that has said it is the last one (`Connection: close`).

    h11 calls that an error, for which Hypercorn answers 400 in place of the response that is being made: a push would be
    committed, and its client told that it was refused.
    """

    def receive_data(self, data: bytes) -> None:
        if self.their_state is not h11.MUST_CLOSE:
            super().receive_data(data)

    def next_event(self) -> Any:
        if self.their_state is h11.MUST_CLOSE:
            return h11.NEED_DATA
        event = super().next_event()
        if isinstance(event, h11.Request) and _size(event) > HEADER_BYTES_MAX:
            # h11 has a limit for a head that has not come to its end, and none for one that came in two reads.
            raise h11.RemoteProtocolError("the head is too long", error_status_hint=431)
        return event


def _size(head: h11.Request) -> int:
    """Return the bytes of a head, written without a blank too many."""
    fields = (len(name) + len(b": ") + len(value) + len(b"\r\n") for name, value in head.headers)
    return len(head.method) + len(head.target) + len(b"  HTTP/1.1\r\n\r\n") + sum(fields)


class Http1(H11Protocol):
    """One connection's protocol; ``judge`` knows the routes."""

    def __init__(self, wrapper: ProtocolWrapper, judge: Judge) -> None:
        super().__init__(
            wrapper.app, wrapper.config, wrapper.context, wrapper.task_group, wrapper.state, wrapper.ssl,
            wrapper.client, wrapper.server, wrapper.send,
        )  # fmt: skip
        self.connection = _Connection(h11.SERVER, max_incomplete_event_size=wrapper.config.h11_max_incomplete_size)
        self._judge = judge
        self._reads_body = True

    async def _check_protocol(self, event: h11.Request) -> None:
        """Go on with HTTP/1.1, whatever is asked for."""

    async def _create_stream(self, request: h11.Request) -> None:
        headers = joined((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers)
        method, target = request.method.decode("latin-1"), request.target.decode("latin-1")
        wants_websocket, self._reads_body = self._judge(method, target, headers)
        if wants_websocket and _is_handshake(request):
            await super()._create_stream(_with_one_connection(request))
            return
        self.stream = HTTPStream(
            self.app, self.config, self.context, self.task_group, self.ssl, self.client, self.server,
            self.stream_send, STREAM_ID,
        )  # fmt: skip
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=list(request.headers),
                http_version=request.http_version.decode(),
                method=method,
                raw_path=request.target,
                state=self.connection_state,
            )
        )
        self.keep_alive_requests += 1
        await self.context.mark_request()

    async def _send_h11_event(self, event: Any) -> None:
        if isinstance(event, h11.Response | h11.InformationalResponse):
            goes_on = event.status_code == HTTPStatus.CONTINUE
            if goes_on and not self._reads_body:
                return
            headers = [] if goes_on else event.headers.raw_items()
            reason = HTTPStatus(event.status_code).phrase.encode()
            event = type(event)(status_code=event.status_code, headers=headers, reason=reason)
        await super()._send_h11_event(event)


def _with_one_connection(request: h11.Request) -> h11.Request:
    """Return ``request`` with its `Connection` fields as one: Hypercorn takes the last one for all of them."""
    tokens = b", ".join(value for name, value in request.headers if name == b"connection")
    others = [(name, value) for name, value in request.headers if name != b"connection"]
    return h11.Request(
        method=request.method,
        target=request.target,
        headers=[*others, (b"connection", tokens)],
        http_version=request.http_version,
    )


def _is_handshake(request: h11.Request) -> bool:
    """Return whether Hypercorn may take it for one: it looks at less, and what it refuses it refuses in its own words."""
    if request.http_version != b"1.1":
        return False
    try:
        check_handshake((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers)
    except Refused:
        return False
    return True


class Http1Connection(TCPServer):
    """A connection of Hypercorn's that speaks :class:`Http1`."""

    def __init__(self, *args: Any, judge: Judge) -> None:
        super().__init__(*args)
        self._judge = judge

    def __setattr__(self, name: str, value: Any) -> None:
        """Put our protocol into the wrapper that Hypercorn makes when it begins to run."""
        if name == "protocol":
            value.protocol = Http1(value, self._judge)
        super().__setattr__(name, value)
