"""Large commands, read part by part: others are served in between.

Theory of operation. To read a command whole is to look at it some times over, and to make all of what is in it: of 10 MiB
that takes 50 to 200 ms. Here its fields are found first, piece by piece (``walk.py``). What is large among them is read by itself,
a list some items at a time; all others are read as any small command is (``codec.py``), without those, or with something
short of the same kind for one that is wrong, so that the words are the same.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec
from msgspec import Raw, Struct
from msgspec import inspect as types

from bunqueue_trio import errors
from bunqueue_trio.config import DEPENDENCIES_MAX
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import walk
from bunqueue_trio.protocol.bounds import LARGE_BYTES, too_many_dependencies
from bunqueue_trio.protocol.catalog import COMMANDS
from bunqueue_trio.protocol.codec import (
    BOM,
    Anybody,
    BadMessage,
    decoder_of,
    name_of,
    outline_of,
    read_field,
    read_part,
    shapes,
    texts_of,
    unknown_field,
)
from bunqueue_trio.protocol.commands import ANY, FAILURES_BYTES, Command, FailBatch, JobSpec
from bunqueue_trio.protocol.cutting import CUT_BYTES, cut_ends, cut_text, cut_texts, text_names
from bunqueue_trio.protocol.surrogates import masked
from bunqueue_trio.protocol.walk import Steps

PARTS_FROM = 256 * 1024
"""Bytes of a command that is read in parts in any case: reading a smaller one whole takes no 20 ms, if the quick decoder takes it."""

# Items, but for large ones: about 2 ms.
_PART = 200
# Texts, of which many more are made in as long.
_TEXTS = 2000
# Of items in a part.
_PART_BYTES = 256 * 1024
_TOO_LONG = b"x" * LARGE_BYTES


def read_in_parts(
    kind: type[Command] | None, text: bytes, read: Callable[[bytes], Command], malformed: errors.Fault
) -> Steps[Command]:
    """Read the command in ``text``, JSON, step by step.

    ``kind``: which one, None: its ``cmd`` says so. ``read`` reads a small one. ``malformed`` is said of what is no JSON, or nested too deep.

    Raises:
        BadMessage: as ``read`` does.
    """
    req_id = Raw(b"")
    try:
        if not text.isascii():
            text.decode()
            yield
        text = yield from walk.skip_space(text.removeprefix(BOM))
        if not text.startswith(b"{"):
            return (yield from _no_object(kind, text, read))
        fields: dict[str, Raw] | None = None
        if kind is None:
            address = yield from walk.members(Anybody, text)
            req_id = address.get("req_id", req_id)
            kind = yield from _kind_of(address.get("cmd"))
            fields = yield from walk.members(outline_of(kind), text, is_checked=True)
        else:
            fields = yield from walk.members(outline_of(kind), text)
        return (yield from _command(kind, fields, read, len(text)))
    except BadMessage:
        raise
    except Refused as refused:
        raise BadMessage(refused, req_id) from None
    except (ValueError, RecursionError) as error:
        raise BadMessage(unknown_field(error) or malformed.refuse(), req_id) from None


def _no_object(kind: type[Command] | None, text: bytes, read: Callable[[bytes], Command]) -> Steps[Command]:
    """Say what is wrong with a command that is no object, or nothing at all.

    Raises:
        ValueError: it is no JSON.
    """
    if not text:
        return read(b"")
    if text.startswith(BOM):
        raise ValueError("one at the beginning is enough")
    if kind is not None:
        # It may be nothing: null, with much behind it.
        if len(text) > LARGE_BYTES:
            rest = yield from walk.skip_space(text[LARGE_BYTES:])
            if rest:
                raise ValueError("no object")
        return read(text[:LARGE_BYTES])
    if text.startswith(b"["):
        yield from walk.check(text)
    else:
        msgspec.json.decode(text, type=Raw)
    raise errors.INVALID_COMMAND.refuse()


def _kind_of(said: Raw | None) -> Steps[type[Command]]:
    """Return the kind of a command by its ``cmd``.

    Raises:
        Refused: there is none like that.
    """
    name = None
    if said is not None and _begin(said) == b'"':
        size = len(memoryview(said))
        if size > LARGE_BYTES:
            yield
        # Nothing is called what is cut.
        name = cut_ends(bytes(said)) if size > CUT_BYTES else name_of(said)
    if name is None:
        raise errors.INVALID_COMMAND.refuse()
    kind = COMMANDS.get(name)
    if kind is None:
        raise errors.UNKNOWN_COMMAND.refuse(name[:100])
    return kind


def _command(
    kind: type[Command], fields: dict[str, Raw], read: Callable[[bytes], Command], size: int
) -> Steps[Command]:
    if kind is FailBatch and size > FAILURES_BYTES:
        size -= yield from _shorten(fields)
        if size > FAILURES_BYTES:
            raise errors.INVALID_FIELD.refuse("failures", f"must be at most {FAILURES_BYTES} bytes")
    command: Command = yield from _read(kind, fields, read, "")
    return command


def _read(kind: type[Struct], fields: dict[str, Raw], read: Callable[[bytes], Any], prefix: str) -> Steps[Any]:
    """Read a struct whose fields are known; ``prefix`` stands before their names where something is wrong with one."""
    small: dict[str, Raw] = {}
    large: list[tuple[str, types.Type, Raw, str]] = []
    tag = kind.__struct_config__.tag_field
    if tag is not None and (said := fields.get(tag)):
        small[tag] = said
    for field, shape in shapes(kind):
        raw = fields.get(field.name)
        if raw is None:
            continue
        apart = _apart(shape, raw) if len(memoryview(raw)) > LARGE_BYTES else None
        if apart is not None:
            large.append((field.name, apart, raw, prefix + field.encode_name))
            if field.required:
                small[field.encode_name] = _EMPTY[_begin(raw)] if _begin(raw) in _EMPTY else Raw(b"[]")
        else:
            small[field.encode_name] = _short(shape, raw)
    made = read(msgspec.json.encode(small))
    yield
    for name, apart, raw, called in large:
        setattr(made, name, (yield from _value(apart, raw, called)))
    return made


def _apart(shape: types.Type, raw: Raw) -> types.Type | None:
    """Return as what a large value is read by itself; None: it is not."""
    begin = _begin(raw)
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
    begin = _begin(raw)
    options = shape.types if isinstance(shape, types.UnionType) else (shape,)
    if len(memoryview(raw)) <= LARGE_BYTES:
        return raw
    if any(isinstance(each, types.Metadata) and each.extra == ANY for each in options):
        # Its ends are kept, whatever it is.
        return _cut(bytes(raw))
    if begin in _EMPTY:
        return _EMPTY[begin]
    if begin == b'"':
        return Raw(b'"%s"' % _TOO_LONG)
    # A number may be as long as one likes.
    return Raw(msgspec.json.encode(value) if math.isfinite(value := float(bytes(raw))) else b"1e999")


def _cut(raw: bytes) -> Raw:
    """Return a large text, or whatever stands in its place, without its middle."""
    is_text = raw.startswith(b'"') and len(raw) > CUT_BYTES
    return (
        Raw(msgspec.json.encode(cut_ends(raw) if is_text else cut_text(raw.decode())))
        if is_text or raw[:1] != b'"'
        else Raw(raw)
    )


_EMPTY = {b"[": Raw(b"[]"), b"{": Raw(b"{}")}


def _value(shape: types.Type, raw: Raw, name: str) -> Steps[Any]:
    """Read one large value."""
    if isinstance(shape, types.ListType):
        assert shape.max_length is not None, "each list that a client may send has an end"
        items = yield from walk.items(bytes(raw), shape.max_length)
        if items is None:
            raise errors.INVALID_FIELD.refuse(name, f"must be at most {shape.max_length} items")
        if isinstance(shape.item_type, types.StructType):
            return (yield from _structs(shape.item_type.cls, items, name))
        if isinstance(shape.item_type, types.RawType):
            return items
        return (yield from _texts(shape, items, name))
    if isinstance(shape, types.StructType):
        return (yield from _struct(shape.cls, bytes(raw), name))
    return raw


def _struct(kind: type[Struct], text: bytes, name: str) -> Steps[Any]:
    """Read a large struct in a command, or in a list of one."""
    names = text_names(kind)
    if names and len(text) > CUT_BYTES:
        text = yield from _without_middles(kind, names, text)
    if len(text) <= LARGE_BYTES or not text.startswith(b"{"):
        return read_part(kind, masked(text) if len(text) <= LARGE_BYTES else text[:1], name)
    fields = yield from walk.members(outline_of(kind), text, is_checked=True)
    separator = ": " if name.endswith("]") else "."
    return (yield from _read(kind, fields, partial(_read_small, kind, name), name + separator))


def _without_middles(kind: type[Struct], names: bytes, text: bytes) -> Steps[bytes]:
    """Return a large struct with the middles of its long texts left out."""
    if not text.startswith(b"{"):
        return text
    if len(text) <= PARTS_FROM:
        return cut_texts(names, text)
    fields = yield from walk.members(outline_of(kind), text, is_checked=True)
    for field, shape in shapes(kind):
        if field.name in fields:
            fields[field.name] = _short(shape, fields[field.name])
    return msgspec.json.encode(
        {field.encode_name: fields[field.name] for field, _ in shapes(kind) if field.name in fields}
    )


def _read_small(kind: type[Any], name: str, text: bytes) -> Any:
    return read_part(kind, masked(text), name)


def _texts(shape: types.ListType, items: list[Raw], name: str) -> Steps[list[str]]:
    """Read a list of texts."""
    if not all(_begin(item) == b'"' for item in items):
        # It says so of any.
        return read_field(shape, b"[1]", name)  # type: ignore[no-any-return]
    found: list[str] = []
    for begin, end in _parts_of(items, _TEXTS):
        part = items[begin:end]
        texts = texts_of(shape, b"[%s]" % b",".join(map(bytes, part)))
        if texts is None:
            texts = [
                read_field(shape.item_type, masked(bytes(each)), f"{name}[{i}]") for i, each in enumerate(part, begin)
            ]
        found += texts
        yield
    return found


def _structs(kind: type[Any], items: list[Raw], name: str) -> Steps[list[Any]]:
    found: list[Any] = []
    quick = decoder_of(kind).decode
    named = 0
    tags: dict[tuple[str, ...], tuple[str, ...]] = {}
    for begin, end in _parts_of(items, _PART):
        for i in range(begin, end):
            item = bytes(items[i])
            if len(item) > CUT_BYTES:
                found.append((yield from _struct(kind, item, f"{name}[{i}]")))
                continue
            try:
                found.append(quick(item))
            except (ValueError, RecursionError):
                found.append(read_part(kind, masked(item), f"{name}[{i}]"))
        if kind is JobSpec:
            for job in found[begin:end]:
                # The garbage collector looks at what is in a list again and again, at texts in a tuple once: a million tags took it 40 ms.
                # Those of jobs with the same ones are let go here: at the end all at once took 20.
                if job.tags:
                    job.tags = tags.setdefault(own := tuple(job.tags), own)
            named += sum(len(job.depends_on or ()) for job in found[begin:end])
            if named > DEPENDENCIES_MAX:
                raise too_many_dependencies()
        yield
    return found


def _begin(raw: Raw) -> bytes:
    return bytes(memoryview(raw)[:1])


def _parts_of(items: list[Raw], most: int) -> Iterator[tuple[int, int]]:
    """Yield from where to where the parts of a list are, of ``most`` items and not many bytes."""
    begin = size = 0
    for i, item in enumerate(items):
        size += len(memoryview(item))
        if i + 1 - begin == most or size >= _PART_BYTES:
            yield begin, i + 1
            begin, size = i + 1, 0
    if begin < len(items):
        yield begin, len(items)


def _shorten(fields: dict[str, Raw]) -> Steps[int]:
    """Cut the long texts of failures; return how many bytes that has saved."""
    said = fields.get("failures")
    if said is None or _begin(said) != b"[":
        return 0
    (shape,) = [shape for field, shape in shapes(FailBatch) if field.name == "failures"]
    assert isinstance(shape, types.ListType)
    assert isinstance(shape.item_type, types.StructType)
    assert shape.max_length is not None
    items = yield from walk.items(bytes(said), shape.max_length)
    if items is None:
        return 0
    kind = shape.item_type.cls
    large = [i for i, item in enumerate(items) if len(memoryview(item)) > CUT_BYTES]
    if not large:
        return 0
    for i in large:
        items[i] = Raw((yield from _without_middles(kind, text_names(kind), bytes(items[i]))))
        yield
    fields["failures"] = Raw(b"[%s]" % b",".join(map(bytes, items)))
    return len(memoryview(said)) - len(memoryview(fields["failures"]))
