"""What an answer over HTTP is, and why there was none, before anybody judges it."""

import ssl
from typing import Any

import httpx


def reply_of(response: httpx.Response) -> dict[str, Any] | None:
    """Return the object that an answer is; None when it is none."""
    try:
        reply = response.json()
    except ValueError:
        # A page of HTML, or nothing.
        return None
    return reply if isinstance(reply, dict) else None


def untrusted_of(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """Return what was wrong with the server's certificate, if that is behind ``error``."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error
