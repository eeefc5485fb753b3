"""Large JSON, read piece by piece: what its members or items are, and whether it is JSON at all. No step looks at much of it.

Theory of operation. What may follow at a place of a text depends on the brackets around it and on what came last (``_After``). So a piece
is made whole: in front of it stand those brackets, with something in the place of what was before, and behind it what ends all that
it leaves open. All of these are JSON if, and only if, the text is. The parser thus looks at each piece as at a small text, and says
where its members begin and end; what goes on in the next piece has a mark at its end, and is called by a name there that no client knows.
"""

import enum
import functools
import re
import secrets
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import Raw, Struct

from bunqueue_trio.protocol.depth import DEPTH_MAX, end_of_piece, highest, left_open
from bunqueue_trio.protocol.surrogates import MARK, marked

T = TypeVar("T")
Steps = Generator[None, None, T]
"""Work that is done in steps, and what comes of it."""

PIECE = 96 * 1024
"""Bytes that are looked at in a step: 1 to 3 ms."""

# What is shorter is not cut: no name of a field, and no literal, is as long.
_LONG = 4096
# A client that knew it could make a value look as if it went on: digits, so that they end texts and numbers alike.
_MARK = str(secrets.randbits(120) | 1 << 119)
_MARK_BYTES = _MARK.encode()
# The names of a member that was begun in a piece before, and of what is only there to end one.
_BEGUN, _END = f"b{_MARK}", f"e{_MARK}"
# No field has it, and it has no mark: a client may write what follows it.
_LONG_KEY = b"k" * 64
_BEGUN_KEY, _END_MEMBER = f'"{_BEGUN}"'.encode(), f'"{_END}":0'.encode()
_SPACE = b" \t\r\n"
_COLON = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*")
_ANYTHING = msgspec.json.Decoder(Raw)
_ITEMS = msgspec.json.Decoder(list[Raw])


class _After(enum.Enum):
    """What came last before a place."""

    OPENING = enum.auto()
    COMMA = enum.auto()
    COLON = enum.auto()
    KEY = enum.auto()
    VALUE = enum.auto()
    # The place is within one.
    IN_KEY = enum.auto()
    IN_TEXT = enum.auto()
    IN_NUMBER = enum.auto()


class _Place(NamedTuple):
    """A place in a text, and all that is to be known of what came before."""

    at: int
    stack: bytes
    """The brackets around it."""
    after: _After
    number: bytes = b""
    """What stands for the number that it is in."""

    @property
    def is_in_value(self) -> bool:
        """Return whether a member or an item of the outermost brackets has begun, and has not ended."""
        if len(self.stack) > 1:
            return True
        in_object = self.stack == b"{"
        return self.after in (_After.IN_TEXT, _After.IN_NUMBER) or (
            in_object and self.after in (_After.COLON, _After.KEY)
        )

    def prefix(self) -> bytes:
        """Return what stands for all that was before."""
        opened = b"".join(_OPENINGS[each] for each in self.stack[:-1])
        of = self.stack[-1:]
        inside = of + _BEGUN_KEY
        done = _END_MEMBER if len(self.stack) == 1 else b'"":0'
        match self.after:
            case _After.OPENING:
                last = of
            case _After.COMMA:
                last = b"{%s," % done if of == b"{" else b"[0,"
            case _After.COLON:
                last = inside + b":"
            case _After.KEY:
                last = inside
            case _After.VALUE:
                # It ends: nothing may go on with it.
                last = b"{" + done + b" " if of == b"{" else b"[0 "
            case _After.IN_KEY:
                last = b'{"' + _LONG_KEY
            case _After.IN_TEXT:
                last = (inside + b":" if of == b"{" else of) + b'"'
            case _After.IN_NUMBER:
                last = (inside + b":" if of == b"{" else of) + self.number
            case _:  # pragma: no cover - all of them are there
                raise AssertionError(self.after)
        return opened + last

    def suffix(self) -> bytes:
        """Return what ends all that is open, with the mark in whatever goes on."""
        in_object = self.stack[-1:] == b"{"
        is_outermost = len(self.stack) == 1
        match self.after:
            case _After.OPENING | _After.VALUE if is_outermost:
                last = b""
            case _After.OPENING:
                last = b'"%s":0' % _MARK_BYTES if in_object else _MARK_BYTES
            case _After.COMMA:
                last = _END_MEMBER if in_object else _MARK_BYTES
            case _After.COLON | _After.IN_NUMBER:
                last = _MARK_BYTES
            case _After.KEY:
                last = b":" + _MARK_BYTES
            case _After.VALUE:
                last = b',"%s":0' % _MARK_BYTES if in_object else b"," + _MARK_BYTES
            case _After.IN_KEY:
                last = b'~%s":0' % _MARK_BYTES
            case _After.IN_TEXT:
                # No digit may end an escape.
                last = b'~%s"' % _MARK_BYTES
            case _:  # pragma: no cover - all of them are there
                raise AssertionError(self.after)
        return last + self.stack[::-1].translate(_CLOSINGS)


_OPENINGS = {ord("["): b"[", ord("{"): b"{" + _BEGUN_KEY + b":"}
_CLOSINGS = bytes.maketrans(b"[{", b"]}")
_AFTER = {ord("["): _After.OPENING, ord("{"): _After.OPENING, ord(","): _After.COMMA, ord(":"): _After.COLON}


class TooDeepError(ValueError):
    """It is nested too deep."""


class _Piece(NamedTuple):
    """A piece that was made whole."""

    begin: _Place
    end: _Place | None
    """None: it is the last one."""
    whole: bytes
    open: bytes
    """How the value ends that goes on in the next piece."""


def members(kind: type[Struct], text: bytes, *, is_checked: bool = False) -> Steps[dict[str, Raw]]:
    """Return the members of an object, as JSON, that are fields of ``kind``, an outline of such (``codec.py``).

    Raises:
        ValueError: it is no JSON; msgspec.ValidationError: no object, or with a name that it may not have.
        TooDeepError: unless ``is_checked``.
    """
    decoder = _outline(kind)
    found: dict[str, Raw] = {}
    name: str | None = None
    begun = 0
    for piece in _pieces(text, b"{", is_checked=is_checked):
        if piece is None:
            yield
            continue
        got, back = _read(decoder, piece.whole)
        shift = piece.begin.at - len(piece.begin.prefix())
        is_open = piece.end is not None and piece.end.is_in_value
        ongoing = bytes(getattr(got, _BEGUN)) if piece.begin.is_in_value else b""
        if ongoing:
            place = _COLON.match(piece.whole, 1 + len(_BEGUN_KEY))
            assert place is not None
            if piece.begin.after in (_After.COLON, _After.KEY) and len(piece.begin.stack) == 1:
                begun = place.end() + shift
            if not (is_open and ongoing.endswith(piece.open)):
                if name is not None:
                    found[name] = _cut(text, begun, place.end() + shift + len(ongoing))
                name = None
            else:
                is_open = False
        for each in kind.__struct_fields__:
            raw: Raw = getattr(got, each)
            if not raw:
                continue
            size = len(memoryview(raw))
            if is_open and bytes(memoryview(raw)[-len(piece.open) :]) == piece.open:
                assert piece.end is not None
                name, begun = each, piece.end.at - size + len(piece.open)
            else:
                found[each] = Raw(back(bytes(raw)))
        yield
    return found


def items(text: bytes, most: int) -> Steps[list[Raw] | None]:
    """Return the items of a list, as JSON; None: there are more than ``most``. It is known to be JSON, and no deeper than it may be.

    Raises:
        ValueError: it is no list.
    """
    found: list[Raw] = []
    begun: int | None = None
    for piece in _pieces(text, b"[", is_checked=True):
        if piece is None:
            yield
            continue
        got, back = _read(_ITEMS, piece.whole)
        prefix = len(piece.begin.prefix())
        outermost = len(piece.begin.stack) == 1
        if outermost and piece.begin.after in (_After.VALUE, _After.COMMA):
            del got[0]
        if piece.end is not None and len(piece.end.stack) == 1 and piece.end.after is _After.COMMA:
            del got[-1]
        is_open = piece.end is not None and piece.end.is_in_value
        last = got.pop() if is_open else None
        if piece.begin.is_in_value and got:
            assert begun is not None
            end = 1 + len(memoryview(got[0])) - prefix + piece.begin.at
            found.append(_cut(text, begun, end))
            del got[0]
            begun = None
        found += [Raw(back(bytes(each))) for each in got]
        if last is not None and begun is None:
            assert piece.end is not None
            begun = piece.end.at - len(memoryview(last)) + len(piece.open)
        if len(found) + (last is not None) > most:
            return None
        yield
    return found


def _cut(text: bytes, begin: int, end: int) -> Raw:
    """Return a value in a text; what is kept of it later keeps no other large part of the text."""
    return Raw(memoryview(text)[begin:end] if 2 * (end - begin) > len(text) else text[begin:end])


def check(text: bytes) -> Steps[None]:
    """Find out whether a text that begins with a bracket is JSON.

    Raises:
        ValueError: it is not; TooDeepError.
    """
    for piece in _pieces(text, text[:1], is_checked=False):
        if piece is None:
            yield
            continue
        _read(_ANYTHING, piece.whole)
        yield


def skip_space(text: bytes) -> Steps[bytes]:
    """Return ``text`` without what may stand before it."""
    at = 0
    while text[at : at + 1] in _SPACES:
        rest = text[at : at + PIECE]
        at += len(rest) - len(rest.lstrip(_SPACE))
        yield
        if at == len(text):
            break
    return text[at:] if at else text


_SPACES = frozenset(bytes([each]) for each in _SPACE)


def _read(decoder: "msgspec.json.Decoder[Any]", whole: bytes) -> tuple[Any, Callable[[bytes], bytes]]:
    """Return what is in a piece, and what makes of a value in it what was sent: lone surrogates are no JSON to the parser."""
    try:
        return decoder.decode(whole), bytes
    except ValueError:
        marks = marked(whole)
        if marks == whole:
            raise
    # Of the same length.
    return decoder.decode(marks), _without_marks


def _without_marks(value: bytes) -> bytes:
    return value.replace(MARK, b"\\")


@functools.cache
def _outline(kind: type[Struct]) -> "msgspec.json.Decoder[Any]":
    """Return what reads members, and those of a piece that are none of the text's."""
    more = [(name, Raw, Raw(b"")) for name in (_BEGUN, _END)]
    names = {each.name: each.encode_name for each in msgspec.structs.fields(kind)}
    strict = kind.__struct_config__.forbid_unknown_fields
    outline = msgspec.defstruct(kind.__name__, more, bases=(kind,), rename=names, forbid_unknown_fields=strict)
    return msgspec.json.Decoder(outline)


def _pieces(text: bytes, opening: bytes, *, is_checked: bool) -> Iterator[_Piece | None]:
    """Cut a text that begins with a bracket into pieces, each made whole."""
    place = _Place(1, opening, _After.OPENING)
    if text[:1] != opening:
        # The parser says why.
        _ANYTHING.decode(text[:PIECE])
        raise ValueError("another kind of JSON")
    while True:
        end = _next(text, place, is_checked=is_checked)
        if end is not None and not end.stack:
            yield _Piece(place, None, place.prefix() + text[place.at : end.at], b"")
            for at in range(end.at, len(text), PIECE):
                if text[at : at + PIECE].strip(_SPACE):
                    raise ValueError("something follows")
                yield None
            return
        closing = b"" if end is None else end.suffix()
        piece = text[place.at :] if end is None else text[place.at : end.at]
        is_bare = end is not None and end.after is _After.KEY and len(end.stack) == 1
        # The colon and the outermost bracket are not the value's.
        yield _Piece(place, end, place.prefix() + piece + closing, closing[is_bare:-1])
        if end is None:
            return
        place = end


def _next(text: bytes, place: _Place, *, is_checked: bool) -> _Place | None:
    """Return the place where the piece that begins at ``place`` is cut; None: it is the last one."""
    end = end_of_piece(text, place.at, PIECE)
    piece = text[place.at : end]
    inside = place.after in (_After.IN_TEXT, _After.IN_KEY)
    # Of the same length, and each quote in it begins or ends a text: every second part is outside of them.
    parts = piece.replace(rb"\\", b"__").replace(rb"\"", b"__").split(b'"')
    brackets = b"".join(parts[inside::2]).translate(None, _NO_BRACKETS)
    opened = brackets.count(b"[") + brackets.count(b"{")
    if not is_checked and opened + len(place.stack) > DEPTH_MAX and highest(brackets, len(place.stack)) > DEPTH_MAX:
        raise TooDeepError
    if end >= len(text):
        return None
    stack = left_open(brackets, place.stack)
    if inside == (len(parts) % 2 == 1):
        # It ends in a text.
        if len(parts) == 1:
            return place._replace(at=end)
        if len(parts[-1]) >= _LONG:
            is_key = _begins_key(parts[-2], place if len(parts) == 2 else None, stack)
            return _Place(end, stack, _After.IN_KEY if is_key else _After.IN_TEXT)
        end -= len(parts.pop()) + 1
    return _between(place, end, stack, parts, inside=inside)


def _between(place: _Place, end: int, stack: bytes, parts: list[bytes], *, inside: bool) -> _Place:
    """Return the place at ``end``, which is in no text, or before what begins there and is to stay whole."""
    kept = parts[-1].rstrip(_TOKEN)
    token = parts[-1][len(kept) :]
    is_first = len(parts) == 1
    if is_first and not kept and place.after is _After.IN_NUMBER:
        return _Place(end, stack, _After.IN_NUMBER, _number(place.number + token))
    if len(token) >= _LONG:
        return _Place(end, stack, _After.IN_NUMBER, _number(token))
    end -= len(token)
    if before := kept.rstrip(_SPACE):
        return _Place(end, stack, _AFTER.get(before[-1], _After.VALUE))
    if is_first:
        assert end > place.at, "what has no end is long"
        return _Place(end, stack, _After.VALUE if place.after is _After.IN_NUMBER else place.after)
    if len(parts) == 2:
        # It began in a piece before.
        return _Place(end, stack, _After.KEY if place.after is _After.IN_KEY else _After.VALUE)
    is_key = _begins_key(parts[-3], place if len(parts) == 3 and not inside else None, stack)
    return _Place(end, stack, _After.KEY if is_key else _After.VALUE)


def _begins_key(before: bytes, place: _Place | None, stack: bytes) -> bool:
    """Return whether the text behind ``before`` is the name of a member; ``place``: where the piece begins, if nothing is between."""
    last = before.rstrip(_SPACE)[-1:]
    if not last and place is not None:
        return stack[-1:] == b"{" and place.after in (_After.OPENING, _After.COMMA)
    return last == b"{" or (last == b"," and stack[-1:] == b"{")


def _number(begun: bytes) -> bytes:
    """Return a short number of which as much has come: what may follow it may follow the other one, and nothing else may."""
    if begun.endswith((b"+", b"-")):
        return b"1e+"
    if begun.endswith((b"e", b"E")):
        return b"1e"
    if begun.endswith(b"."):
        return b"1."
    return b"1e1" if b"e" in begun.lower() else b"1.1" if b"." in begun else b"1"


_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_TOKEN = bytes(set(range(256)) - set(b'[]{},:" \t\r\n'))
