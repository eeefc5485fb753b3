"""An answer over HTTP as it came, or why there was none; nobody has judged it yet."""

import ssl
from typing import Any

import httpx

from bunqueue_trio.protocol.numbers import integer


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
