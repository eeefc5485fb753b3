"""Large commands, read part by part: others are served in between.

Theory of operation. To read a command whole is to look at it some times over, and to make all of what is in it: of 10 MiB
that takes 50 to 200 ms. Here its fields are found first, without a look into them. What is large among them is read by itself,
a list some items at a time; all others are read as any small command is (``codec.py``), without those, or with something
short of the same kind for one that is wrong, so that the words are the same. What is no object is left to who reads it whole.
"""

from collections.abc import Callable, Generator
from functools import partial
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct
from msgspec import inspect as types

from bunqueue_trio import errors
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol.bounds import LARGE_BYTES, limited
from bunqueue_trio.protocol.catalog import COMMANDS
from bunqueue_trio.protocol.codec import BadMessage, address_of, decoder_of, fields_of, read_field, read_part, shapes
from bunqueue_trio.protocol.commands import FAILURES_BYTES, Command, FailBatch
from bunqueue_trio.protocol.cutting import CUT_BYTES, cut_texts, text_names
from bunqueue_trio.protocol.depth import DEPTH_MAX, depths, pieces
from bunqueue_trio.protocol.surrogates import MARK, masked, unmasked, unmasked_bytes

T = TypeVar("T")
Steps = Generator[None, None, T]
"""Work that is done in steps, and what comes of it."""

PARTS_FROM = 256 * 1024
"""Bytes of a command that is read in parts: reading a smaller one whole takes no 20 ms."""

# Items, but for large ones: about 2 ms.
_PART = 200
# Of items in a part.
_PART_BYTES = 256 * 1024
_ITEMS = msgspec.json.Decoder(list[Raw])
# In a list that is read into a list: it has no more items than that.
_COMMAS = 100_000
_TOO_LONG = b"x" * LARGE_BYTES


def read_in_parts(
    kind: type[Command] | None, text: bytes, read: Callable[[bytes], Command], malformed: errors.Fault
) -> Steps[Command | None]:
    """Read the command in ``text``, JSON, step by step; return it, or None: it is to be read whole.

    ``kind``: which one, None: its ``cmd`` says so. ``read`` reads a small one. ``malformed`` is said of what is nested too deep.

    Raises:
        BadMessage: as ``read`` does.
    """
    req_id = Raw(b"")
    try:
        if not text.isascii():
            text.decode()
            yield
        text = yield from _in_pieces(masked, text)
        if kind is None:
            name, req_id = address_of(text)
            kind = COMMANDS.get(name)
            yield
            req_id = Raw((yield from _in_pieces(unmasked_bytes, bytes(req_id))))
        if kind is None or (kind is FailBatch and len(text) > FAILURES_BYTES):
            return None
        fields = fields_of(kind, text)
    except (ValueError, RecursionError):
        return None
    except Refused as refused:
        raise BadMessage(refused, req_id) from None
    yield
    try:
        for depth in depths(text):
            if depth > DEPTH_MAX:
                raise malformed.refuse()
            yield
        command: Command = yield from _read(kind, fields, read, "")
    except BadMessage:
        raise
    except Refused as refused:
        raise BadMessage(refused, req_id) from None
    return command


def _in_pieces(change: Callable[[bytes], bytes], text: bytes) -> Steps[bytes]:
    """Return what is changed of ``text``, of which no escape is looked at together with another one."""
    changed: list[bytes] = []
    for piece in pieces(text):
        changed.append(change(piece))
        yield
    return b"".join(changed)


def _read(kind: type[Struct], fields: Any, read: Callable[[bytes], Any], prefix: str) -> Steps[Any]:
    """Read a struct whose fields are known; ``prefix`` stands before their names where something is wrong with one."""
    small: dict[str, Raw] = {}
    large: list[tuple[str, types.Type, Raw, str]] = []
    tag = kind.__struct_config__.tag_field
    if tag is not None and (said := getattr(fields, tag)):
        small[tag] = said
    for field, shape in shapes(kind):
        raw: Raw = getattr(fields, field.name)
        if not raw:
            continue
        apart = _apart(shape, raw) if len(memoryview(raw)) > LARGE_BYTES else None
        if apart is not None:
            large.append((field.name, apart, raw, prefix + field.encode_name))
            if field.required:
                small[field.encode_name] = Raw(b"[]")
        else:
            small[field.encode_name] = unmasked(_short(shape, raw))
    made = read(msgspec.json.encode(small))
    yield
    for name, apart, raw, called in large:
        setattr(made, name, (yield from _value(apart, raw, called)))
    return made


def _apart(shape: types.Type, raw: Raw) -> types.Type | None:
    """Return as what a large value is read by itself; None: it is not."""
    begin = bytes(memoryview(raw)[:1])
    for option in shape.types if isinstance(shape, types.UnionType) else (shape,):
        match option:
            case types.RawType():
                return option
            case types.ListType() if begin == b"[":
                return option
            case types.StructType() if begin == b"{":
                return option
    return None


def _short(shape: types.Type, raw: Raw) -> Raw:
    """Return what is as wrong as a large value, or the value if it may be right."""
    begin = bytes(memoryview(raw)[:1])
    options = shape.types if isinstance(shape, types.UnionType) else (shape,)
    if len(memoryview(raw)) <= LARGE_BYTES or any(isinstance(each, types.Metadata) for each in options):
        return raw
    if begin in _EMPTY:
        return _EMPTY[begin]
    return Raw(b'"%s"' % _TOO_LONG) if begin == b'"' else raw


_EMPTY = {b"[": Raw(b"[]"), b"{": Raw(b"{}")}


def _value(shape: types.Type, raw: Raw, name: str) -> Steps[Any]:
    """Read one large value."""
    text = bytes(raw)
    if isinstance(shape, types.ListType):
        assert shape.max_length is not None, "each list that a client may send has an end"
        items = _items(text, shape.max_length, name)
        yield
        if isinstance(shape.item_type, types.StructType):
            return (yield from _structs(shape.item_type.cls, items, name, is_masked=MARK in text))
        if isinstance(shape.item_type, types.RawType):
            return (yield from _payloads(items))
        return read_field(shape, text, name)
    if isinstance(shape, types.StructType):
        return (yield from _struct(shape.cls, text, name))
    return Raw((yield from _in_pieces(unmasked_bytes, text))) if MARK in text else raw


def _struct(kind: type[Struct], text: bytes, name: str) -> Steps[Any]:
    """Read a large struct in a command, or in a list of one."""
    names = text_names(kind)
    if names and len(text) > CUT_BYTES:
        text = cut_texts(names, text)
        yield
    if len(text) <= LARGE_BYTES or not text.startswith(b"{"):
        return read_part(kind, text, name)
    fields = fields_of(kind, text)
    yield
    separator = ": " if name.endswith("]") else "."
    return (yield from _read(kind, fields, partial(_read_small, kind, name), name + separator))


def _read_small(kind: type[Any], name: str, text: bytes) -> Any:
    return read_part(kind, text, name)


def _payloads(items: list[Raw]) -> Steps[list[Raw]]:
    found: list[Raw] = []
    size = 0
    for item in items:
        found.append(unmasked(item))
        size += len(memoryview(item))
        if size >= _PART_BYTES:
            size = 0
            yield
    return found


def _structs(kind: type[Any], items: list[Raw], name: str, *, is_masked: bool) -> Steps[list[Any]]:
    found: list[Any] = []
    count = size = 0
    quick = decoder_of(kind).decode
    for i, item in enumerate(map(bytes, items)):
        if len(item) > CUT_BYTES:
            found.append((yield from _struct(kind, item, f"{name}[{i}]")))
        elif is_masked:
            found.append(read_part(kind, item, f"{name}[{i}]"))
        else:
            try:
                found.append(quick(item))
            except (ValueError, RecursionError):
                found.append(read_part(kind, item, f"{name}[{i}]"))
        count, size = count + 1, size + len(item)
        if count == _PART or size >= _PART_BYTES:
            count = size = 0
            yield
    return found


def _items(text: bytes, most: int, name: str) -> list[Raw]:
    """Return the items of a list.

    Raises:
        Refused: they are too many.
    """
    items: list[Raw] = []
    try:
        if text.count(b",") < _COMMAS:
            items = _ITEMS.decode(text)
        else:
            items = [item for item in msgspec.structs.astuple(limited(most).decode(text)) if isinstance(item, Raw)]
        is_over = len(items) > most
    except msgspec.ValidationError:
        is_over = True
    if is_over:
        raise errors.INVALID_FIELD.refuse(name, f"must be at most {most} items")
    return items
