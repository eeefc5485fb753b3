"""Who may ask: tokens, pages of other origins in browsers, and whose rate limit a request counts against."""

import functools
import hashlib
import hmac
import ipaddress
from collections.abc import Mapping
from typing import NamedTuple

from bunqueue_trio.config import CLIENT_KEY_MAX, NamedToken, Settings
from bunqueue_trio.protocol.commands.spec import Role

CorsHeaders = tuple[tuple[str, str], ...]

_RESUMING = {"last-event-id": "Last-Event-ID", "cache-control": "Cache-Control"}
"""What readers of event streams ask for when they come back; who does not ask gets the documented two."""


class Grant(NamedTuple):
    """What somebody may do, and the name of their token: None where the server asks for no token."""

    role: Role
    name: str | None = None


ANYBODY = Grant(Role.ADMIN)
"""Where no token is asked for."""


class Access:
    """The rules of one server; it refuses nobody itself."""

    def __init__(self, settings: Settings) -> None:
        self._tokens = [(_digest(token.encode()), _grant(token)) for token in settings.auth_tokens]
        self._origins = settings.cors_allow_origin
        self._fixed_cors = len(self._origins) == 1

    def grant_of_header(self, authorization: str) -> Grant | None:
        """Return what the token in an Authorization header allows; None: there is no such token."""
        if not self._tokens:
            return ANYBODY
        scheme, _, token = authorization.partition(" ")
        # Header bytes become text as latin-1; a proxy of the ASGI kind may have made it of something else.
        return self._look_up(token.strip().encode("latin-1", "replace")) if scheme.lower() == "bearer" else None

    def grant_of(self, token: str) -> Grant | None:
        """Return what ``token`` allows; None: there is no such token. The time that this takes does not give a token away.

        Without configured tokens any will do.
        """
        return self._look_up(token.encode("utf-8", "surrogatepass")) if self._tokens else ANYBODY

    def _look_up(self, token: bytes) -> Grant | None:
        # The time to compare these tells neither a token nor its length.
        given = _digest(token)
        matches = [grant for known, grant in self._tokens if hmac.compare_digest(given, known)]
        return matches[0] if matches else None

    def is_foreign(self, headers: Mapping[str, str], *, is_page: bool) -> bool:
        """Return whether a browser asks for a page of somebody else; other clients say no origin.

        ``is_page``: a link from elsewhere may lead there.
        """
        if "*" in self._origins:
            return False
        origin = headers.get("origin")
        if origin is None:
            return headers.get("sec-fetch-site") == "cross-site" and not is_page
        own = headers.get("host", "").lower()
        return origin not in self._origins and origin.lower().partition("://")[2] != own

    def cors(self, origin: str | None) -> CorsHeaders:
        """Return the CORS headers for a page of ``origin`` (None: not sent, or one rule for all)."""
        if self._fixed_cors:
            return (("Access-Control-Allow-Origin", self._origins[0]),)
        if "*" in self._origins:
            return (("Access-Control-Allow-Origin", "*"),)
        if origin in self._origins and origin is not None:
            return (("Access-Control-Allow-Origin", origin), ("Vary", "Origin"))
        return (("Vary", "Origin"),)

    def origin_of(self, headers: Mapping[str, str]) -> str | None:
        """Return the page that asks, if the answer depends on it."""
        return None if self._fixed_cors else headers.get("origin")


def preflight(headers: str) -> CorsHeaders:
    """Return the headers that answer a preflight; ``headers`` are the ones that it may send."""
    return (
        ("Access-Control-Allow-Methods", "GET, POST, PUT, DELETE, OPTIONS"),
        ("Access-Control-Allow-Headers", headers),
        ("Access-Control-Max-Age", "86400"),
    )


def allowed_headers(headers: Mapping[str, str]) -> str:
    """Return which headers the answer to a preflight allows."""
    asked = {name.strip().lower() for name in headers.get("access-control-request-headers", "").split(",")}
    return ", ".join(["Content-Type, Authorization", *(_RESUMING[name] for name in _RESUMING if name in asked)])


UNKNOWN = "unknown"


def client_key(headers: Mapping[str, str]) -> str:
    """Return the address that a proxy says the request comes from, or ``unknown``."""
    for value in (headers.get("x-forwarded-for", "").split(",")[0], headers.get("x-real-ip", "")):
        if address := value.strip():
            return _one_spelling(address[:CLIENT_KEY_MAX])
    return UNKNOWN


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
        return text or UNKNOWN
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)


def _grant(token: str) -> Grant:
    return Grant(Role[token.role.upper()], token.name) if isinstance(token, NamedToken) else Grant(Role.ADMIN, "token")


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
