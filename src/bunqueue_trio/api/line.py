"""A place in the line of a session's replies, and what a message says without being read."""

import re
from typing import Any

import structlog
from msgspec import Raw, Struct

from bunqueue_trio import errors
from bunqueue_trio.config import RECEIVE_BYTES
from bunqueue_trio.errors import InvariantBroken, Refused, StoreError
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.catalog import FILLS, SPECS
from bunqueue_trio.protocol.commands import Command
from bunqueue_trio.protocol.faults import error_reply
from bunqueue_trio.runtime.begun import Begun

_log = structlog.get_logger()

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
    said = bytes(req_id)
    if not said:
        return message
    if len(message) < RECEIVE_BYTES:
        return b'%b,"reqId":%b}' % (message[:-1], said)
    # One copy of it, however large.
    return b"".join((memoryview(message)[:-1], b',"reqId":', said, b"}"))


def failed(error: Exception, kind: type[Command[Any]]) -> r.ErrorReply:
    """Return the one reply to a command of this ``kind`` that came to nothing.

    Raises:
        InvariantBroken: that is the ``error``, and the process ends.
    """
    if isinstance(error, InvariantBroken):
        raise error
    if isinstance(error, Refused):
        return error_reply(error, kind)
    if isinstance(error, StoreError):
        _log.error("read failed", error=str(error))
        return error_reply(errors.unread(error), kind)
    _log.error("a command has failed", exc_info=error)
    return error_reply(errors.INTERNAL_ERROR.refuse(), kind)
