"""How messages get to a server and back: the interface that a client needs, and what its two kinds of WebSocket share.

`socket_trio.py` and `socket_asyncio.py` have these; `backend.py` chooses.
"""

import math
import ssl
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

import anyio
import msgspec

from bunqueue_trio.errors import INVALID_QUEUE, INVALID_TOKEN, UNAUTHORIZED, Refused
from bunqueue_trio.protocol.address import http_url
from bunqueue_trio.protocol.faults import fault_of
from bunqueue_trio.protocol.request import segment_of

# Of a server that does not say it: the default; larger ones would end the connection.
MESSAGE_MAX = 10 * 1024 * 1024
# A batch of large jobs is larger than any one of them.
RECEIVED_MAX = 256 * 1024 * 1024
# To be connected, and also for an orderly end.
CONNECT_S = 10.0
# For goodbyes.
END_S = 1.0
# For the rest of a message that has begun, when everything is cancelled.
FINISH_S = 1.0
# As often as the server looks after us.
KEEPALIVE_S = 20.0
# Messages: what a busy worker gets in a few ms.
READ_AHEAD = 256
TOO_BIG = 1009


class Closed(Exception):
    """The connection is over; ``too_big``: because the server does not take messages of that size."""

    def __init__(self, *, too_big: bool = False) -> None:
        super().__init__("the connection is closed")
        self.too_big = too_big


class Connection(Protocol):
    """One connection; a single task sends and a single task receives."""

    keepalive_s: float | None
    """How long the other side may be silent before it is asked whether it is there; None: its end is always noticed."""

    message_max: int
    """How long a message the other side takes, in bytes."""

    async def send(self, message: bytes) -> None:
        """Send one message.

        Raises:
            Closed: it is over.
        """
        ...

    async def receive(self) -> bytes:
        """Return the next message.

        Raises:
            Closed: it is over.
        """
        ...


Connect = Callable[[str | None], AbstractAsyncContextManager[Connection]]
"""Connects; given a queue, only events of that queue come. Entering it raises ``OSError`` when there is no
server, or ``Refused`` when it will never let us in."""


class Address(NamedTuple):
    """Where a server is, in its parts. Without ``host`` and ``path`` there is no server."""

    given: str
    host: str | None
    port: int
    path: str | None
    """Of a Unix socket."""
    tls: ssl.SSLContext | None
    """None: it is not encrypted."""
    netloc: str
    token: str | None

    def resource(self, queue: str | None) -> str:
        """Return the path to connect to: for events of all queues, or of one."""
        return "/ws" if queue is None else f"/ws/queues/{segment_of(queue)}"


def address_of(url: str, token: str | None, tls: ssl.SSLContext | None) -> Address:
    """Return the parts of an address; ``ValueError`` where it is none, see ``http_url``."""
    place = http_url(url)
    if place.startswith("unix:"):
        return Address(url, None, 0, place.removeprefix("unix:"), None, "localhost", token)
    parts = urlsplit(place)
    assert parts.hostname is not None, "http_url has seen to it"
    if parts.scheme == "http":
        return Address(url, parts.hostname, parts.port or 80, None, None, parts.netloc, token)
    return Address(
        url, parts.hostname, parts.port or 443, None, tls or ssl.create_default_context(), parts.netloc, token
    )


def message_max_of(said: str | bytes | None) -> int:
    """Return how long a message a server takes that ``said`` so at the handshake; the default if it said nothing."""
    return int(said) if said is not None and said.isdigit() else MESSAGE_MAX


def goodbye_s(*, unsent: bool = False) -> float:
    """Return how long an orderly end may take; when we are cancelled already, nobody waits for its answer."""
    if anyio.current_effective_deadline() > -math.inf:
        return END_S
    return FINISH_S if unsent else 0.05


def broken(address: str, error: BaseException) -> Exception:
    """Return what a handshake means that broke."""
    return ConnectionError(f"{address}: the handshake broke: {type(error).__name__}: {error}")


def untrusted(address: str, error: ssl.SSLCertVerificationError) -> Exception:
    """Return what a certificate means that does not verify: waiting does not mend it."""
    return Refused(400, f"{address}: {error.verify_message}: its certificate is not trusted")


def rejected(address: str, status: int, body: bytes | bytearray | None) -> Exception:
    """Return the error for an answer that is no handshake. Nearly always it passes: a deploy, a proxy whose server is gone."""
    said = _refusal_of(body)
    if said is None:
        return ConnectionError(f"{address}: answered {status}: not as a bunqueue server does")
    fault = fault_of(said.error, said.code)
    # Only the server knows its tokens: what stands before it may want another one, and for now.
    if fault in (UNAUTHORIZED, INVALID_TOKEN):
        return Refused(401, f"{address}: {UNAUTHORIZED.message}", UNAUTHORIZED.code)
    if fault is INVALID_QUEUE:
        return Refused(status, said.error, INVALID_QUEUE.code)
    return ConnectionError(f"{address}: answered {status}: {said.error}")


def _refusal_of(body: bytes | bytearray | None) -> "_Refusal | None":
    """Return what a server of ours refused; None for any other answer."""
    try:
        reply = msgspec.json.decode(body or b"", type=_Refusal)
    except msgspec.DecodeError:
        return None
    return None if reply.ok else reply


class _Refusal(msgspec.Struct):
    ok: bool
    error: str
    code: str | None = None
