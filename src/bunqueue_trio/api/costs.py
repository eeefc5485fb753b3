"""What is to be made for a request, as far as that is known before it is read: a page, which costs several commands, or no more than a command."""

import re
from os.path import commonprefix

from bunqueue_trio.api.call import Call
from bunqueue_trio.pages.table import ANSWERS
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.catalog import SPECS
from bunqueue_trio.protocol.routes import Match

_CHEAP: frozenset[object] = frozenset({"live", "ready", c.Ping})
_COSTLY_TAGS = sorted(SPECS[k].tag for k in ANSWERS if k in SPECS and k not in _CHEAP)
_COSTLY = re.compile(rb'"cmd"\s*:\s*"(?:%s)"' % "|".join(_COSTLY_TAGS).encode())
# How all of them begin: nearly no other message has that.
_COSTLY_BEGIN = f'"{commonprefix(_COSTLY_TAGS)}'.encode()  # noqa: RUF071 - by their letters


def makes_page(call: Call) -> bool:
    """Return whether ``call`` is for a page, or leads nowhere; not for the shortest ones, which probes ask for again and again."""
    if call.route is None or not isinstance(call.match, Match):
        return True
    target = call.target
    return (isinstance(target, str) or target in ANSWERS) and target not in _CHEAP


def asks_for_page(message: bytes) -> bool:
    """Return whether a message of a WebSocket asks for a page. Who spells its command otherwise is taken for cheaper than it is."""
    return _COSTLY_BEGIN in message and _COSTLY.search(message) is not None
