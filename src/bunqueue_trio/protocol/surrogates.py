"""JSON with lone surrogates, which a server passes on as they came and the quick parser takes for no JSON.

Where one begins, its backslash becomes a byte that no UTF-8 has: the parser then skips it as part of a payload,
and the payload gets its backslash back.
"""

import re

from msgspec import Raw

_MARK = b"\xff"
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_LONE_HIGH = re.compile(rb"\\u(?=[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2}))")
_LONE_LOW = re.compile(rb"\\u(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u)(?=[dD][c-fC-F][0-9a-fA-F]{2})")


def marked(message: bytes) -> bytes:
    """Return ``message`` with each lone surrogate marked."""
    if not _SURROGATE.search(message):
        return message
    # An escaped backslash begins no other escape: another such byte stands for it meanwhile.
    message = message.replace(rb"\\", b"\xfe")
    message = _LONE_LOW.sub(_MARK + b"u", _LONE_HIGH.sub(_MARK + b"u", message))
    return message.replace(b"\xfe", rb"\\")


def restored(payload: Raw) -> bytes:
    """Return a payload as it was pushed."""
    text = bytes(payload)
    return text.replace(_MARK, b"\\") if _MARK in text else text
