"""Payloads as people read them: indented, cut, and with the values of some keys masked. Numbers stay as they were sent."""

import functools
import re
from collections.abc import Collection
from typing import NamedTuple

import msgspec
from msgspec import Raw

# On a page; the rest is behind a link.
SHOWN_CHARS = 4000
# Looked at for the first part: 1 ms.
PARSED_BYTES = 128 * 1024
# And shown whole: 4 ms to indent and to mask; larger ones are for a program.
WHOLE_BYTES = 32 * 1024
# Of a payload that is compared with others.
COMPARED_BYTES = 16 * 1024
MASK = "•••"


class Shown(NamedTuple):
    """A payload as text."""

    text: str
    bytes: int
    is_cut: bool
    """There is more of it."""
    is_too_large: bool = False
    """It is not shown at all."""


def show(raw: Raw | bytes, mask: Collection[str], chars: int | None = SHOWN_CHARS) -> Shown:
    """Return a payload with at most ``chars`` characters (None: any number), the values of the keys in ``mask`` hidden.

    Keys of ``mask`` are in lower case.
    """
    if (size := len(memoryview(raw))) > (WHOLE_BYTES if chars is None else PARSED_BYTES):
        return Shown("", size, is_cut=True, is_too_large=True)
    data = bytes(raw)
    try:
        text = msgspec.json.format(data, indent=2).decode("utf-8", "replace")
    except (msgspec.DecodeError, RecursionError):
        # So deep that nobody reads it; it may hold what is to be hidden.
        return Shown("", len(data), is_cut=True, is_too_large=True)
    # What is hidden begins before it ends: a text that is cut first hides the same.
    is_cut = chars is not None and len(text) > chars
    text = text[:chars]
    return Shown(_masked(text, mask) if mask else text, len(data), is_cut)


def hidden(raw: Raw, mask: Collection[str]) -> Raw:
    """Return a payload on one line with the values of the keys in ``mask`` hidden; one that is too large to be looked through is hidden whole."""
    shown = show(raw, mask, None)
    return Raw(msgspec.json.encode(MASK) if shown.is_too_large else msgspec.json.format(shown.text.encode(), indent=-1))


def _masked(text: str, mask: Collection[str]) -> str:
    parts, position = [], 0
    for match in _pattern(frozenset(mask)).finditer(text):
        if match.start() < position:
            # Within what is hidden already.
            continue
        indent, key, value = match.groups()
        if _name(key).lower() not in mask:
            continue
        end = match.end()
        if value in ("{", "["):
            # It ends with the next line that is indented as little.
            closing = "\n" + indent + ("}" if value == "{" else "]")
            found = text.find(closing, end)
            end = len(text) if found < 0 else found + len(closing)
        elif value.endswith(","):
            end -= 1
        parts += [text[position : match.start()], f'{indent}{key}: "{MASK}"']
        position = end
    return "".join([*parts, text[position:]])


@functools.lru_cache(maxsize=4)
def _pattern(mask: frozenset[str]) -> re.Pattern[str]:
    """Return what finds lines with keys that may be in ``mask``: written so, or with an escape."""
    names = "|".join(map(re.escape, sorted(mask)))
    return re.compile(rf'^( *)("(?:{names}|[^"\\\n]*\\[^\n]*?)"): (.*)$', re.IGNORECASE | re.MULTILINE)


def _name(key: str) -> str:
    """Return a key as it is meant: it may be written with escapes."""
    try:
        return msgspec.json.decode(key.encode("utf-8", "surrogatepass"), type=str)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return key[1:-1]


class Common(NamedTuple):
    """Something that the jobs have in common."""

    what: str
    value: str


def common(payloads: list[Raw], mask: Collection[str], limit: int = 6) -> list[Common]:
    """Return the top-level keys that have the same simple value in all ``payloads``."""
    shared: dict[str, str] | None = None
    for raw in payloads:
        data = bytes(raw)
        if len(data) > COMPARED_BYTES:
            return []
        try:
            found = msgspec.json.decode(data, type=dict[str, Raw])
        except (msgspec.DecodeError, RecursionError):
            return []
        texts = {key: bytes(value).decode("utf-8", "replace") for key, value in found.items() if key}
        simple = {key: text for key, text in texts.items() if len(text) <= 100 and text[:1] not in ("{", "[")}
        shared = simple if shared is None else {k: v for k, v in shared.items() if simple.get(k) == v}
        if not shared:
            return []
    return [Common(key, MASK if key.lower() in mask else value) for key, value in (shared or {}).items()][:limit]
