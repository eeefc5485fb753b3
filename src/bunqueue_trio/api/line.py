"""A place in the line of a session's replies."""

from typing import NamedTuple

from msgspec import Raw

from bunqueue_trio.runtime.begun import Begun

NEVER = 1 << 62
"""The epoch of a reply that is not there yet: what comes behind it waits."""

_NO_ID = Raw()


class Waiting(NamedTuple):
    """A reply in line; it may leave when ``epoch`` is committed."""

    epoch: int
    message: bytes
    begun: Begun | None = None
    """The command whose time is noted when this is sent, if it has an epoch; of a pull that is not sent the jobs return."""
    req_id: Raw = _NO_ID
