"""What a request does that comes again and again, but for its body: what is always so of it is found out once."""

from collections.abc import Callable
from functools import partial
from typing import Any

from bunqueue_trio.api.access import UNKNOWN
from bunqueue_trio.api.call import Call, Response
from bunqueue_trio.api.gateway import Gateway
from bunqueue_trio.config import SMALL_BODY_BYTES
from bunqueue_trio.errors import Refused, StoreError
from bunqueue_trio.protocol.catalog import ACTS, FILLS, REVIVES, TAKES
from bunqueue_trio.protocol.codec import decode
from bunqueue_trio.protocol.routes import Match
from bunqueue_trio.runtime.begun import Begun
from bunqueue_trio.runtime.server import Server

Begin = Callable[[bytes, str], Begun | Response | None]
"""Begins a request, with its body and the address that it comes from; see :meth:`Gateway.begin`."""


def beginner(server: Server, gateway: Gateway, call: Call) -> Begin:
    """Return what does the same as :meth:`Gateway.begin` for ``call``, which may begin."""
    route, match, core = call.route, call.match, server.core
    kind: Any = call.target
    is_let_in = not server.limiter.enabled and call.is_admitted and call.lacks is None
    if route is None or not isinstance(match, Match) or not is_let_in or route.method == "GET" or call.query:
        return partial(gateway.begin, call)
    if kind in ACTS or kind in TAKES or kind in REVIVES:
        return partial(gateway.begin, call)
    check, fills, values, is_optional = core.journal.check, kind in FILLS, match.values, route.optional_body

    def begin(body: bytes, address: str = UNKNOWN) -> Begun | Response | None:
        size = len(body)
        if size > SMALL_BODY_BYTES or not size:
            return gateway.begin(call, body, address)
        try:
            check(fills=fills)
            # None of those that are done in slices, of which only who has read it knows what it brings: they are acts.
            return core.begin(decode(kind, body, is_optional, **values), size=size, sliced=True, is_checked=True)
        except (Refused, StoreError) as error:
            return gateway.refusal(call, error)

    return begin
