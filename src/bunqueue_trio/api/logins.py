"""Who has signed in with a browser, and the tickets that open a stream: in memory, bounded, and gone with the process.

A browser sends a token once. From then on a cookie stands for it, until it ends; forms carry a number that only a page of
ours can know (CSRF). A ticket stands for a token in an address, once and for seconds.
"""

import hashlib
import hmac
import secrets
from collections import OrderedDict
from typing import Any

from msgspec import Struct

from bunqueue_trio.api.access import Grant
from bunqueue_trio.config import HOUR_MS, SECOND_MS

# A night and the morning after.
LOGIN_MS = 12 * HOUR_MS
# The oldest makes room.
LOGINS_MAX = 1000
# A token has at most this part of them.
TOKENS_SHARE = 10
# A page opens its stream at once; a minute of a slow phone is too much for a secret in a log.
TICKET_MS = 30 * SECOND_MS
TICKETS_MAX = 1000
# Characters of a cookie or ticket that is looked at: ours have 43.
VALUE_MAX = 128


class Login(Struct, frozen=True):
    """A browser that has signed in."""

    grant: Grant
    """What the token allows, and its name."""
    until: int


class Logins:
    """The logins and tickets of one server; times in epoch ms."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._logins: OrderedDict[bytes, Login] = OrderedDict()
        self._tickets: OrderedDict[bytes, tuple[Grant, int]] = OrderedDict()

    def sign_in(self, grant: Grant, now: int) -> str:
        """Return the value of a cookie that stands for a token from now on."""
        value = secrets.token_urlsafe(32)
        _make_room(self._logins, [key for key, login in self._logins.items() if login.grant == grant], LOGINS_MAX)
        self._logins[_digest(value)] = Login(grant, now + LOGIN_MS)
        return value

    def find(self, value: str, now: int) -> Login | None:
        """Return the login that a cookie stands for, None when it has ended or never was."""
        key = _digest(value[:VALUE_MAX])
        login = self._logins.get(key)
        if login is not None and login.until <= now:
            del self._logins[key]
            return None
        return login

    def sign_out(self, value: str) -> None:
        """End a login; do nothing when there is no such login."""
        self._logins.pop(_digest(value[:VALUE_MAX]), None)

    def csrf(self, value: str) -> str:
        """Return what a form of the page with this cookie carries."""
        return hmac.new(self._secret, value[:VALUE_MAX].encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()

    def is_csrf(self, value: str, given: str) -> bool:
        """Return whether ``given`` is what a form of the page with this cookie carries."""
        return hmac.compare_digest(self.csrf(value).encode(), given[:VALUE_MAX].encode("utf-8", "surrogatepass"))

    def new_ticket(self, grant: Grant, now: int) -> str:
        """Return a ticket for one stream, which may do what ``grant`` allows."""
        value = secrets.token_urlsafe(32)
        _make_room(self._tickets, [key for key, (other, _) in self._tickets.items() if other == grant], TICKETS_MAX)
        self._tickets[_digest(value)] = (grant, now + TICKET_MS)
        return value

    def redeem(self, ticket: str, now: int) -> Grant | None:
        """Return what a ticket allows, once; None: it is no good."""
        grant, until = self._tickets.pop(_digest(ticket[:VALUE_MAX]), (None, 0))
        return grant if now < until else None


def _make_room(kept: OrderedDict[bytes, Any], own: list[bytes], most: int) -> None:
    """Let the oldest of the same token make room, so that nobody ends those of others; else the oldest of all."""
    if len(own) >= most // TOKENS_SHARE:
        del kept[own[0]]
    elif len(kept) >= most:
        kept.popitem(last=False)


def cookie_of(header: str, name: str) -> str:
    """Return the value of a cookie in a Cookie header, empty when there is none."""
    for part in header.split(";"):
        key, _, value = part.strip().partition("=")
        if key == name:
            return value.strip('"')
    return ""


def _digest(value: str) -> bytes:
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).digest()
