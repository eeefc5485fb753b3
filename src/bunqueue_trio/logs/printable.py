"""Text of clients on its way to a terminal: what would move its cursor, colour it or hide a line is written out."""

import re
from collections.abc import Callable

# C0 and DEL, C1, line and paragraph separators, what turns the direction of writing, and lone surrogates,
# which no terminal gets at all: they cannot be encoded.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

name_of: Callable[[type], str] = type.__dict__["__name__"].__get__
"""Returns the name of a class, as `kind.__name__` does, but never raises: a metaclass may have a `__name__` of its own."""


def printable(text: object, *, keep: str = "") -> str:
    r"""Return ``text`` with each control character as ``\x1b`` or ``\u2028``, except those in ``keep``."""
    plain = bare = str(text)
    for character in keep:
        bare = bare.replace(character, "")
    # What that takes for printable is so to us, too.
    if bare.isprintable():
        return plain
    return _UNPRINTABLE.sub(lambda found: found[0] if found[0] in keep else _escaped(found[0]), plain)


def printable_json(text: str) -> str:
    r"""Return the same JSON in one line, with each control character of its strings as an escape such as ``\u009b``."""
    # In a string C0 is escaped already: what there is of it stands between tokens.
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}" if found[0] > "\x1f" else " ", text)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
