"""An answer over HTTP as it came, or why there was none; nobody has judged it yet."""

import ssl
from typing import Any

import httpx

from bunqueue_trio.errors import BunqueueError, ConnectionLost, JobFailed, JobRemoved, Refused, ServerUnavailable
from bunqueue_trio.protocol.events import Event
from bunqueue_trio.protocol.numbers import integer
from bunqueue_trio.protocol.replies import StateReply

# Of a proxy: the server may have had the request, and its answer got lost.
_PASSED_ON = frozenset({500, 502, 504})
# Whoever says so did not pass it on.
_PASSING = frozenset({408, 425, 429, 503})


def reply_of(response: httpx.Response) -> dict[str, Any] | None:
    """Return the JSON object of an answer; None when it is no object."""
    try:
        reply = response.json(parse_int=integer)
    except ValueError:
        # A page of HTML, or nothing.
        return None
    return reply if isinstance(reply, dict) else None


def untrusted_of(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """Return what was wrong with the server's certificate, if that is behind ``error``."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error


def raise_end(job_id: str, seen: StateReply, last: Event | None) -> None:
    """Raise how a job ended by its ``last`` event, where no record of it is kept; return where it was completed."""
    if last is not None and last.event_type == "completed":
        return
    if last is not None and last.event_type == "failed":
        raise JobFailed(job_id, str(last.error))
    if last is not None and last.event_type == "removed":
        raise JobRemoved(job_id, "cancelled" if seen.ttl is None else "cancelled, or its time to live was over")
    raise ConnectionLost(f"job {job_id} ended, and no record of it is kept: how is not known")


def foreign(url: object, method: str, path: str, status: int) -> BunqueueError:
    """Return the error for an answer that is not this server's: a proxy's, or that of some other program at this address."""
    what = f"{url}: answered {status}, not as a bunqueue server does"
    if status in _PASSED_ON:
        return ConnectionLost(f"{method} {path} was sent, and may have been done: {what}")
    if status >= 500 or status in _PASSING:
        return ServerUnavailable(what)
    return Refused(max(status, 400), f"{what}: is no bunqueue server")
