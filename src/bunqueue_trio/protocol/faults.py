"""Every kind of refusal by its code; and which one an answer says, for clients."""

import re

from msgspec import UNSET

from bunqueue_trio import errors
from bunqueue_trio.config.spans import whole
from bunqueue_trio.errors import ConnectionLost, Fault, Refused, ServerUnavailable
from bunqueue_trio.protocol.catalog import CATALOG
from bunqueue_trio.protocol.replies import ErrorReply

_ALL = [fault for fault in vars(errors).values() if isinstance(fault, Fault)]

FAULTS: dict[str, Fault] = {fault.code: fault for fault in (*_ALL, *(f for spec in CATALOG for f in spec.refuses))}
"""Code → refusal."""

_OURS = frozenset(spec.command for spec in CATALOG if not spec.contract)
"""Commands that the reference does not have."""

_BEFORE_ANY = frozenset({401, 429})
"""Statuses of refusals that look at no command: the reference shows them for all."""

_SECOND_MS = 1000

_FIELD, _HUMP = re.compile(r"^(?:\w+\[\d+\]: )?[\w.\[\]]+"), re.compile("([A-Z])")
"""The field that a refusal begins with, and what its name in Python has a line before."""

_TIMES = frozenset({
    "auto_retry_interval", "backoff", "delay", "duration", "every", "grace", "grace_period", "lock_ttl", "max_age",
    "max_delay", "newer", "older", "repeat_every", "retry_in", "stall_interval", "timeout", "ttl", "window",
})  # fmt: skip
"""What the server reads in ms, and a program may have said in seconds."""
_BOUND = re.compile(r"(?:^|[ .])(\w+) must be at (?:least|most) (\d+)$")

PASSING = frozenset({429, 503})
"""Statuses of refusals that may be gone the next time."""


def error_reply(refused: Refused, command: object = None) -> ErrorReply:
    """Return the answer that says ``refused`` to a ``command``, by its type; None: to what is no command.

    Where the reference shows the answer whole it stays so, and all others have a code.
    """
    text = str(refused)
    is_shown = text in errors.LITERAL and (command not in _OURS or refused.status in _BEFORE_ANY)
    return ErrorReply(error=text, code=UNSET if is_shown else refused.code or UNSET)


def fault_of(text: str, code: str | None) -> Fault | None:
    """Return which refusal an answer says; None for one that is not known. Those without a code are the reference's to the letter."""
    return errors.LITERAL.get(text) if code is None else FAULTS.get(code)


def error_of(
    text: str, code: str | None, *, status: int | None = None, retry_after: float | None = None
) -> Refused | ServerUnavailable | ConnectionLost:
    """Return the exception for a refusal of the server; over WebSocket it carries no ``status``.

    A field is called what it is called in Python, and the bound of a time has its unit. It is ``ConnectionLost`` where a change may still be committed: its fate is unknown, as when the connection breaks.
    """
    fault = fault_of(text, code)
    if fault is errors.INVALID_FIELD:
        text = _FIELD.sub(lambda found: _HUMP.sub(r"_\1", found[0]).lower(), text)
        if (bound := _BOUND.search(text)) and bound[1] in _TIMES:
            ms = int(bound[2])
            text += " ms" if ms < _SECOND_MS else f" ms, which is {whole(ms)}"
        # As it is called where a job is pulled.
        text = text.replace("lock_ttl ", "lease (lock_ttl) ")
    if fault is errors.NOT_COMMITTED:
        return ConnectionLost(text)
    known = code or ("" if fault is None else fault.code)
    if status is None:
        status = 400 if fault is None else fault.status
    if status in PASSING:
        return ServerUnavailable(text, retry_after, code=known)
    return Refused(status, text, known)
