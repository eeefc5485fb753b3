"""A place in the line of a session's replies, and what a message says without being read."""

import re

from msgspec import Raw, Struct

from bunqueue_trio.protocol.catalog import FILLS, SPECS
from bunqueue_trio.runtime.begun import Begun

NEVER = 1 << 62
"""The epoch of a reply that is not there yet: what comes behind it waits."""

PUSH = re.compile(rb'"cmd"\s*:\s*"(?:%s)"' % "|".join(sorted(SPECS[kind].tag for kind in FILLS)).encode())
"""What is in every message that brings jobs, and in few others."""

_NO_ID = Raw()


class Waiting(Struct, frozen=True):
    """A reply in line; it may leave when ``epoch`` is committed."""

    epoch: int
    message: bytes
    begun: Begun | None = None
    """The command whose time is noted when this is sent, if it has an epoch; of a pull that is not sent the jobs return."""
    req_id: Raw = _NO_ID


def with_id(message: bytes, req_id: Raw) -> bytes:
    """Return ``message`` with the ``reqId`` of its command, if that has one."""
    if not (said := bytes(req_id)):
        return message
    # It is copied once, however large it is.
    return b"".join((memoryview(message)[:-1], b',"reqId":', said, b"}"))
