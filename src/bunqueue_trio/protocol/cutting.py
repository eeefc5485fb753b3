"""Texts that are too long to be kept whole: they are cut before they are decoded.

Whoever fails may send megabytes of error. Of those the two ends are kept, so only those are decoded, and cleaned of what is no
text; the middle is looked at for its end alone.
"""

import functools
import re
from json import JSONDecoder

import msgspec
from msgspec import Struct
from msgspec import inspect as types

from bunqueue_trio.protocol.commands import ANY, TEXT_MAX

_LENIENT = JSONDecoder(strict=False)
"""Takes lone surrogates, as the quick parser does not."""

_GAP = "\n… {} {} and a few are left out …\n"
_HALF = (TEXT_MAX - len(_GAP) - 20) // 2
_WINDOW = 12 * _HALF + 32
"""Bytes of an end that is decoded: two escapes may be one character, and what was cut at its edge is left out."""
CUT_BYTES = 2 * _WINDOW
"""Texts of more bytes than these are cut as bytes: there are more characters in them than are kept."""


def cut_text(text: str) -> str:
    """Return ``text``, without its middle if it is too long."""
    if len(text) <= TEXT_MAX:
        return text
    return text[:_HALF] + _GAP.format(len(text) - TEXT_MAX, "characters") + text[-_HALF:]


def cut_texts(names: bytes, body: bytes) -> bytes:
    """Return ``body``, JSON, with the middle of very long texts left out where they stand behind one of ``names``.

    ``names``: as :func:`text_names` returns them. What is no JSON may stay as it is.
    """
    # Of the same length, and each quote in it begins or ends a text.
    plain = body.replace(rb"\\", b"__").replace(rb"\"", b"__")
    is_named = re.compile(rb'"(?:%s)"[ \t\r\n]{0,16}:[ \t\r\n]{0,16}"' % names)
    pieces: list[bytes] = []
    done = at = 0
    while at + _WINDOW <= len(plain):
        # A text to be cut has a whole window without a quote in it, so nothing is looked at one by one.
        if (quote := plain.rfind(b'"', at, at + _WINDOW)) >= 0:
            at = quote + 1
            continue
        begin, end = plain.rfind(b'"', 0, at) + 1, plain.find(b'"', at + _WINDOW)
        if end < 0:
            break
        at = end + 1
        if end - begin <= CUT_BYTES:
            continue
        if any(found.end() == begin for found in is_named.finditer(plain, max(done, begin - 100), begin)):
            pieces += [body[done:begin], msgspec.json.encode(_ends(body, begin, end))[1:-1]]
            done = end
    pieces.append(body[done:])
    return b"".join(pieces)


def cut_ends(raw: bytes) -> str:
    """Return the text in a JSON string of more bytes than ``CUT_BYTES``, without its middle."""
    return _ends(raw, 1, len(raw) - 1)


def text_of(raw: bytes) -> str:
    """Return the text in ``raw``, a JSON string with lone surrogates; those stay as escapes.

    Raises:
        ValueError: it is none.
    """
    text: str = _LENIENT.decode(raw.decode(errors="ignore"))
    return text.encode("utf-8", "backslashreplace").decode()


@functools.cache
def text_names(kind: type[Struct]) -> bytes:
    """Return the names of the fields of ``kind`` that take any JSON, as a regular expression; b"": there are none.

    The fields of what it has a list of count too.
    """
    names = []
    for field in msgspec.structs.fields(kind):
        shape = types.type_info(field.type)
        options = shape.types if isinstance(shape, types.UnionType) else (shape,)
        if any(isinstance(option, types.Metadata) and option.extra == ANY for option in options):
            names.append(field.encode_name.encode())
        elif isinstance(shape, types.ListType) and isinstance(shape.item_type, types.StructType):
            names.append(text_names(shape.item_type.cls))
    return b"|".join(filter(None, names))


def _ends(body: bytes, begin: int, end: int) -> str:
    """Return the text between two quotes without its middle."""
    head, tail = body[begin : begin + _WINDOW], body[end - _WINDOW : end]
    if _is_escape(head, len(head)):
        head = head[:-1]
    elif (escape := head.rfind(rb"\u", len(head) - 5)) >= 0 and not _is_escape(head, escape):
        head = head[:escape]
    # A quote stands before the text, and ends what is looked at.
    if _is_escape(body, end - _WINDOW):
        tail = tail[1:]
    middle = end - begin - 2 * _HALF
    return text_of(b'"%s"' % head)[:_HALF] + _GAP.format(middle, "bytes") + text_of(b'"%s"' % tail)[-_HALF:]


def _is_escape(text: bytes, at: int) -> bool:
    """Return whether the byte at ``at`` belongs to a backslash before it."""
    size = 64
    while (before := text[max(0, at - size) : at]).strip(b"\\") == b"" and size < at:
        size *= 8
    return (len(before) - len(before.rstrip(b"\\"))) % 2 == 1
