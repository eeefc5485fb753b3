"""What a request does that comes again and again, but for its body and the names in its path: what is always so of it is found out once."""

from collections.abc import Callable
from typing import Any

from bunqueue_trio.api.call import Call, Response
from bunqueue_trio.api.gateway import Gateway
from bunqueue_trio.config import SMALL_BODY_BYTES
from bunqueue_trio.errors import Refused, StoreError
from bunqueue_trio.protocol.catalog import ACTS, FILLS, TAKES
from bunqueue_trio.protocol.codec import decode
from bunqueue_trio.protocol.routes import Match, query_object
from bunqueue_trio.runtime.begun import Begun
from bunqueue_trio.runtime.server import Server

Begin = Callable[[Call, bytes, str], Begun | Response | None]
"""Begins a call, with its body and the address that it comes from; see :meth:`Gateway.begin`."""


def beginner(server: Server, gateway: Gateway, like: Call) -> Begin:
    """Return what does the same as :meth:`Gateway.begin` for ``like``, which may begin, and for calls that differ in the values of their paths only."""
    route, core = like.route, server.core
    kind: Any = like.target
    is_let_in = not server.limiter.enabled and like.is_admitted and like.lacks is None
    if route is None or not isinstance(like.match, Match) or not is_let_in or kind in ACTS:
        return gateway.begin
    asked: bytes | None = None
    if route.method == "GET":
        try:
            asked = query_object(like.query, kind) if like.query else b"{}"
        except Refused:
            return gateway.begin
    elif like.query:
        return gateway.begin
    check, fills, takes, is_optional = core.journal.check, kind in FILLS, kind in TAKES, route.optional_body

    def begin(call: Call, body: bytes, address: str) -> Begun | Response | None:
        if len(body) > SMALL_BODY_BYTES or not (body or asked):
            return gateway.begin(call, body, address)
        try:
            if asked is None:
                check(fills=fills)
            else:
                body = asked
            # That is so of each call that is like the first one.
            values = call.match.values  # type: ignore[union-attr]
            command = decode(kind, body, is_optional, **values)
            if takes:
                call.name_taker(command, address)
            # None of those that are done in slices, of which only who has read it knows what it brings: they are acts.
            return core.begin(command, size=len(body), sliced=True, is_checked=asked is None)
        except (Refused, StoreError) as error:
            return gateway.refusal(call, error)

    return begin
