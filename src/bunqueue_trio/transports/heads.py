"""The heads of requests of the express lane: what is asked for, and in which form.

They come again and again, so they are kept, a bounded number of them. What is not in plain form
(chunked bodies, HTTP/1.0, oversized or broken heads, event streams) is a :class:`Handover`: it is not for this lane.
"""

import re
from itertools import count
from typing import NamedTuple, TypeVar

import httptools

from bunqueue_trio.api.beginning import Begin, beginner
from bunqueue_trio.api.call import Call
from bunqueue_trio.api.gateway import Gateway
from bunqueue_trio.config import HEADS_KEPT, KEPT_HEAD_BYTES, WHOLE_HEADS_KEPT, WHOLE_HEADS_MISSED
from bunqueue_trio.protocol.routes import Match
from bunqueue_trio.runtime.server import Server

K = TypeVar("K")
T = TypeVar("T")

# Targets that the lane leaves to Hypercorn and Quart.
_SLOW = frozenset({"events", "event-log", "export", "ui"})


class Handover(Exception):
    """This connection goes on at Hypercorn; ``unread`` is what it has to read first."""

    def __init__(self, unread: bytes) -> None:
        super().__init__("handover")
        self.unread = unread


class _Head:
    """The head of a request, as httptools reports it."""

    __slots__ = ("headers", "target")

    def __init__(self) -> None:
        self.target = ""
        self.headers: dict[str, str] = {}

    def on_url(self, url: bytes) -> None:
        self.target += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1")
        self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text


class Plain(NamedTuple):
    """A request in plain form, but for its body."""

    call: Call
    length: int
    """Of its body, in bytes."""
    keep: bool
    """The client goes on with this connection."""
    is_head: bool
    waits: bool
    """The client sends its body when the server has answered `100 Continue`."""
    at_once: bool
    """With its body, it is a command that :meth:`Gateway.begin` may take, on a connection that goes on."""
    begin: Begin
    """Does that."""

    def to(self, match: Match) -> "Plain":
        """Return the same request with other values in its path."""
        return Plain._make((self.call.to(match), *self[1:]))


class _Fields(NamedTuple):
    """What the header fields of a head say, whatever its request line."""

    headers: dict[str, str]
    length: int
    keep: bool
    waits: bool
    number: int
    """Of these fields: equal ones that are read anew have another one."""


class Upgrade(NamedTuple):
    """A request for a WebSocket where there is one."""

    call: Call
    headers: dict[str, str]


class RequestHeads:
    """Reads the heads of requests.

    Whole heads are kept, and header fields apart from their request line: ids and names of many queues make lines that do
    not come again, with the same fields below them. Of such a line only its path is read then: the rest is as it was.
    And heads that differ in the id of a job only, as this server makes them, or in the name of a queue, are one head.
    """

    def __init__(self, server: Server, gateway: Gateway) -> None:
        self._server = server
        self._gateway = gateway
        self._body_max = server.settings.body_max_bytes
        self._known: dict[bytes, Plain] = {}
        self._known_fields: dict[bytes, _Fields] = {}
        self._known_routes: dict[tuple[int, str, str], Plain] = {}
        """By the number of the fields, the method and the path of the route: the first such request."""
        self._known_but_for_one: dict[bytes, Plain] = {}
        """By the head without the id of its job, or the name of its queue: the first such request."""
        self._missed = 0
        """Whole heads that were not kept, since these are as many as may be."""
        self._numbers = count()

    def parse(self, unread: bytes, end: int) -> Plain | Upgrade:
        """Return the request whose head is ``unread[:end]``.

        Raises:
            Handover: it is not in plain form.
        """
        head_bytes = unread[:end]
        plain: Plain | Upgrade | None = self._known.get(head_bytes)
        if plain is None:
            one, rest = _ONE.match(head_bytes), b""
            if one is not None:
                start, end = one.span(one.lastindex)  # type: ignore[arg-type]
                rest = head_bytes[:start] + head_bytes[end:]
                like = self._known_but_for_one.get(rest)
                if like is not None:
                    methods, values = like.call.match  # type: ignore[misc]
                    plain = like.to(Match(methods, {**values, one.lastgroup: head_bytes[start:end].decode()}))  # type: ignore[dict-item]
                    if one.lastgroup == "queue":
                        self._keep_whole(head_bytes, plain)
                    return plain
            plain = self._parse_line(head_bytes) or self._parse(head_bytes, unread)
            if isinstance(plain, Upgrade):
                return plain
            match = plain.call.match
            if rest and isinstance(match, Match) and len(head_bytes) <= KEPT_HEAD_BYTES:
                _keep(self._known_but_for_one, rest, plain)
            # Ids make heads that do not come again; what leads nowhere may have been made up.
            if isinstance(match, Match) and "id" not in match.values:
                self._keep_whole(head_bytes, plain)
        return plain

    def _keep_whole(self, head_bytes: bytes, plain: Plain) -> None:
        if len(head_bytes) > KEPT_HEAD_BYTES:
            return
        if len(self._known) >= WHOLE_HEADS_KEPT:
            self._missed += 1
            if self._missed < WHOLE_HEADS_MISSED:
                return
            self._missed = 0
            self._known.clear()
        self._known[head_bytes] = plain

    def _parse_line(self, head_bytes: bytes) -> Plain | None:
        """Return the request if its header fields are known and its line is a simple one."""
        end = head_bytes.find(b"\r\n")
        fields = self._known_fields.get(head_bytes[end:])
        line = None if fields is None else _LINE.fullmatch(head_bytes, 0, end)
        if fields is None or line is None:
            return None
        method, target = line[1].decode("ascii"), line[2].decode("ascii")
        match = None if "?" in target else self._gateway.find(target, method)
        key = None
        if isinstance(match, Match) and (route := match.methods.get(method)) is not None:
            key = (fields.number, method, route.path)
            like = self._known_routes.get(key)
            if like is not None:
                return like.to(match)
        call = self._gateway.resolve(method, target, fields.headers)
        # What is no command may be for another lane, or for a WebSocket.
        if isinstance(call.target, str):
            return None
        plain = self._plain(call, fields, is_head=False)
        if key is not None and plain.at_once:
            _keep(self._known_routes, key, plain)
        return plain

    def _parse(self, head_bytes: bytes, unread: bytes) -> Plain | Upgrade:
        head = _Head()
        parser = httptools.HttpRequestParser(head)
        try:
            parser.feed_data(head_bytes)
        except httptools.HttpParserUpgrade:
            # The parser stops here; what it has read is whole.
            pass
        except httptools.HttpParserError:
            raise Handover(unread) from None
        headers = head.headers
        if not _is_plain(headers, parser.get_http_version()):
            raise Handover(unread)
        method = parser.get_method().decode("latin-1")
        call = self._gateway.resolve(method, head.target, headers)
        # It is not counted against the rate limit yet.
        if call.target in _SLOW:
            raise Handover(unread)
        # Any other protocol, and a WebSocket elsewhere, is not wanted: the request itself is served (RFC 9110, 7.8).
        if call.target == "websocket" and parser.should_upgrade() and headers["upgrade"].lower() == "websocket":
            return Upgrade(call, headers)
        length = int(headers.get("content-length", "0"))
        # Of whom announces no body nothing is asked (RFC 9110, 10.1.1).
        waits = length > 0 and headers.get("expect", "").lower() == "100-continue"
        fields = _Fields(headers, length, _wants_more(headers), waits, next(self._numbers))
        if len(head_bytes) <= KEPT_HEAD_BYTES and not head_bytes.startswith(b"\r\n"):
            _keep(self._known_fields, head_bytes[head_bytes.find(b"\r\n") :], fields)
        return self._plain(call, fields, is_head=method == "HEAD")

    def _plain(self, call: Call, fields: _Fields, *, is_head: bool) -> Plain:
        _, length, keep, waits, _ = fields
        at_once = keep and not is_head and not waits and length <= self._body_max and self._gateway.may_begin(call)
        begin = beginner(self._server, self._gateway, call) if at_once else self._gateway.begin
        return Plain(call, length, keep, is_head, waits, at_once, begin)


_LINE = re.compile(rb"(GET|POST|PUT|DELETE) (/[\w./?=&%~:+,@-]*) HTTP/1\.1")
"""The request lines that need no parser; all others, and with each header fields that are new, are httptools' to judge."""


_ONE = re.compile(
    rb"(?:GET|POST|PUT|DELETE) /(?:jobs/(?P<id>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})|queues/(?P<queue>[\w.:-]+))[ /]"
)
"""A request about a job with an id of this server's, or about a queue: no route has these as a word of its own. Behind them anything may stand."""


def _keep(known: dict[K, T], key: K, value: T) -> None:
    if len(known) >= HEADS_KEPT:
        known.clear()
    known[key] = value


def _is_plain(headers: dict[str, str], version: str) -> bool:
    length = headers.get("content-length", "0")
    return (
        version == "1.1"
        # None, or more than one.
        and "," not in headers.get("host", ",")
        and "transfer-encoding" not in headers
        and headers.get("expect", "100-continue").lower() == "100-continue"
        and length.isdigit()
        # More digits than any length has.
        and len(length) <= 20
    )


def _wants_more(headers: dict[str, str]) -> bool:
    """Return whether the client keeps the connection. (httptools knows only until a request is complete.)"""
    return "close" not in (token.strip().lower() for token in headers.get("connection", "").split(","))
