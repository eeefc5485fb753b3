"""Whether a request may be asked again when nobody knows what became of it, as the catalogue says of its command."""

from typing import Any

import msgspec
from msgspec import Struct

from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol.catalog import SPECS
from bunqueue_trio.protocol.commands.spec import Again as Again
from bunqueue_trio.protocol.request import has_tokens
from bunqueue_trio.protocol.routes import ROUTES, Router

_ROUTER = Router(ROUTES)
_READS = ("GET", "HEAD")


class _Holder(Struct):
    """What a body says of who holds the jobs that it names."""

    token: Any = None
    tokens: Any = None
    failures: list[dict[str, Any]] | None = None


_HOLDER = msgspec.json.Decoder(_Holder)


def repeatable(request: bytes) -> Again:
    """Return what may be done with a whole HTTP request that was sent and not answered; a request that we do not know is refused anyway."""
    head, _, body = request.partition(b"\r\n\r\n")
    method, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
    path = rest.partition(" ")[0].partition("?")[0]
    try:
        match = _ROUTER.match(path, method)
    except Refused:
        match = None
    route = None if match is None else match.methods.get(method)
    if route is None or isinstance(route.target, str):
        return Again.FREELY if method in _READS else Again.NEVER
    spec = SPECS[route.target]
    return spec.repeatable(with_token=spec.again_with_token is not None and _has_tokens(body))


def _has_tokens(body: bytes) -> bool:
    try:
        holder = _HOLDER.decode(body or b"{}")
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return has_tokens({name: value for name, value in msgspec.structs.asdict(holder).items() if value is not None})
