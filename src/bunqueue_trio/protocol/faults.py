"""Every kind of refusal by its code; and which one an answer says, for clients."""

from bunqueue_trio import errors
from bunqueue_trio.errors import ConnectionLost, Fault, Refused, ServerUnavailable
from bunqueue_trio.protocol.catalog import CATALOG

_ALL = [fault for fault in vars(errors).values() if isinstance(fault, Fault)]

FAULTS: dict[str, Fault] = {fault.code: fault for fault in (*_ALL, *(f for spec in CATALOG for f in spec.refuses))}
"""Code → refusal."""

PASSING = frozenset({429, 503})
"""Statuses of refusals that may be gone the next time."""


def fault_of(text: str, code: str | None) -> Fault | None:
    """Return which refusal an answer says; None for one that is not known. Those without a code are the reference's to the letter."""
    return errors.LITERAL.get(text) if code is None else FAULTS.get(code)


def error_of(
    text: str, code: str | None, *, status: int | None = None, retry_after: float | None = None
) -> Refused | ServerUnavailable | ConnectionLost:
    """Return the exception for a refusal of the server; over WebSocket it carries no ``status``.

    It is ``ConnectionLost`` where a change may still be committed: its fate is unknown, as when the connection breaks.
    """
    fault = fault_of(text, code)
    if fault is errors.NOT_COMMITTED:
        return ConnectionLost(text)
    known = code or ("" if fault is None else fault.code)
    if status is None:
        status = 400 if fault is None else fault.status
    if status in PASSING:
        return ServerUnavailable(text, retry_after, code=known)
    return Refused(status, text, known)
