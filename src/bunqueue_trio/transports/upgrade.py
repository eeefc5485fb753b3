"""Which request asks to become a WebSocket, and whether it does so as RFC 6455 has it; what is said then is not known here."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus

from websockets.datastructures import Headers
from websockets.http11 import Request as Handshake
from websockets.http11 import Response
from websockets.server import ServerProtocol

from bunqueue_trio import errors


def wants_upgrade(headers: Mapping[str, str]) -> bool:
    """Return whether a request asks to become a WebSocket; another protocol is not wanted (RFC 9110, 7.8)."""
    tokens = [token.strip() for token in headers.get("connection", "").lower().split(",")]
    return "upgrade" in tokens and headers.get("upgrade", "").lower() == "websocket"


def joined(fields: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return header fields by lower-case name; repeated ones joined as HTTP says."""
    headers: dict[str, str] = {}
    for name, value in fields:
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return headers


def check_handshake(headers: Iterable[tuple[str, str]]) -> None:
    """Raise ``Refused`` when a request that wants to become a WebSocket does not ask as RFC 6455 has it (4.2.1)."""
    accept(ServerProtocol(), Handshake("/", Headers(headers)))


def accept(protocol: ServerProtocol, handshake: Handshake) -> Response:
    """Return the response that makes a WebSocket of it, or raise ``Refused``."""
    response = protocol.accept(handshake)
    if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
        raise errors.Refused(
            response.status_code, errors.BAD_HANDSHAKE.message.format(protocol.handshake_exc), errors.BAD_HANDSHAKE.code
        )
    return response
