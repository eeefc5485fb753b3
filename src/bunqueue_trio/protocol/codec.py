"""JSON bytes ↔ commands and replies; the only place that words what is wrong with an input.

The fast path is one msgspec call. When it refuses, the slow path reads the same bytes again, field by
field against the same types: it accepts what the contract is lenient about (``2.0`` for an integer,
null for "not given", duplicate keys, lone surrogates inside a payload) and names the field otherwise.
"""

import functools
import math
import operator
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

import msgspec
from msgspec import Raw, Struct
from msgspec import inspect as types

from bunqueue_trio import errors
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol.bounds import LARGE_BYTES, check_lists
from bunqueue_trio.protocol.catalog import COMMANDS
from bunqueue_trio.protocol.commands import ANY, EPOCH_MS, Command
from bunqueue_trio.protocol.cutting import CUT_BYTES, cut_text, cut_texts, text_names, text_of
from bunqueue_trio.protocol.depth import DEPTH_MAX, is_deep
from bunqueue_trio.protocol.surrogates import MARK, marked, masked, unmasked, unmasked_bytes

T = TypeVar("T", bound=Struct)

_ENCODER = msgspec.json.Encoder()
_ARRAY = msgspec.json.Decoder(list[Raw])
_ANYTHING = msgspec.json.Decoder(Raw)
_TEXTS = msgspec.json.Decoder(list[str])
_STRING = msgspec.json.Decoder(str)
_ANY_COMMAND: "msgspec.json.Decoder[Command]" = msgspec.json.Decoder(functools.reduce(operator.or_, COMMANDS.values()))
_DECODERS: dict[type[Struct], "msgspec.json.Decoder[Any]"] = {}
# Editors and shells on Windows begin a file with it.
BOM = b"\xef\xbb\xbf"
# How clients spell an empty body.
_NOTHING = frozenset({b"", b"null"})
# In the words of msgspec.
_UNKNOWN = re.compile("Object contains unknown field `(.*)`", re.DOTALL)
encode: Callable[[Any], bytes] = _ENCODER.encode
"""Return the JSON bytes of a reply or an event; payloads are put in as they are."""


class NeedsParts(Exception):
    """A command can only be read slowly, and is too large to be read whole."""


def decode(kind: type[T], body: bytes, optional: bool = False, most: float = math.inf, /, **given: str) -> T:  # noqa: FBT001, FBT002 - any name may be given
    """Return the command of type ``kind`` in ``body``; ``given`` fields (from the path) win.

    An ``optional`` body may be blank or ``null``. ``most``: how many bytes may be read the slow way.

    Raises:
        Refused: 400, naming the field; or ``Invalid JSON body`` when it is no JSON object.
        NeedsParts: it has more than ``most``.
    """
    try:
        if not body.isascii():
            body.decode()
        if len(body) > CUT_BYTES and (names := text_names(kind)):
            body = cut_texts(names, body)
        if len(body) > LARGE_BYTES and issubclass(kind, Command):
            check_lists(kind, body)
        command: Any = (_DECODERS.get(kind) or decoder_of(kind)).decode(body)
    except (ValueError, RecursionError):
        # UnicodeDecodeError and msgspec's errors are ValueErrors.
        if optional and body.removeprefix(BOM).strip(b" \t\r\n") in _NOTHING:
            body = b"{}"
        if len(body) > most:
            raise NeedsParts from None
        command = _read_struct(kind, _read_object(body, kind, errors.INVALID_JSON_BODY), "", given)
    for name, value in given.items():
        setattr(command, name, value)
    # Else it cannot be.
    if len(body) > DEPTH_MAX and body.count(b"[") + body.count(b"{") > DEPTH_MAX:
        _check_depth(body, errors.INVALID_JSON_BODY)
    checked: T = command
    return checked


class BadMessage(Refused):
    """A message that is no command; ``req_id`` is what the answer must echo."""

    def __init__(self, cause: Refused, req_id: Raw) -> None:
        super().__init__(cause.status, str(cause), cause.code)
        self.req_id = req_id


def decode_message(message: bytes, most: float = math.inf) -> Command:
    """Return the command in one WebSocket message; ``most``: how many bytes of it may be read the slow way.

    Raises:
        BadMessage: with the contract's text.
        NeedsParts: it has more than ``most``.
    """
    try:
        if not message.isascii():
            message.decode()
        if len(message) > CUT_BYTES:
            message = _cut_texts(message)
    except ValueError:
        return _read_message(message)
    if len(message) > LARGE_BYTES:
        _check_lists(message)
    try:
        command = _ANY_COMMAND.decode(message)
    except (ValueError, RecursionError):
        if len(message) > most:
            raise NeedsParts from None
        return _read_message(message)
    try:
        # Else it cannot be.
        if len(message) > DEPTH_MAX and message.count(b"[") + message.count(b"{") > DEPTH_MAX:
            _check_depth(message, errors.INVALID_JSON)
        _check_target(command)
    except Refused as refused:
        raise BadMessage(refused, command.req_id) from None
    return command


class _Address(Struct, rename="camel"):
    """What a message says of itself."""

    cmd: str
    req_id: Raw = Raw(b"")


_ADDRESS = msgspec.json.Decoder(_Address)


_WITH_TEXTS = tuple(tag.encode() for tag, kind in COMMANDS.items() if text_names(kind))
_TEXT_NAMES = b"|".join({text_names(kind) for kind in COMMANDS.values()} - {b""})


def _cut_texts(message: bytes) -> bytes:
    """Return ``message`` without the middles of long texts, if it is of a command that may have some."""
    if not any(b'"%s"' % tag in message for tag in _WITH_TEXTS):
        return message
    short = cut_texts(_TEXT_NAMES, message)
    if len(short) == len(message):
        return message
    try:
        kind = COMMANDS.get(_ADDRESS.decode(masked(short)).cmd)
    except (ValueError, RecursionError):
        return message
    return short if kind is not None and text_names(kind) else message


def _check_lists(message: bytes) -> None:
    try:
        address = _ADDRESS.decode(message)
    except (ValueError, RecursionError):
        return
    kind = COMMANDS.get(address.cmd)
    if kind is not None:
        try:
            check_lists(kind, message)
        except Refused as refused:
            raise BadMessage(refused, address.req_id) from None


def _check_target(command: Command) -> None:
    for name in ("queue", "id"):
        if getattr(command, name, None) == "":
            raise errors.INVALID_FIELD.refuse(name, "is required")


def _read_message(message: bytes) -> Command:
    req_id = Raw(b"")
    try:
        address = _read_object(message, Anybody, errors.INVALID_JSON, errors.INVALID_COMMAND)
        _check_depth(message, errors.INVALID_JSON)
        req_id = unmasked(address.req_id)
        name = name_of(address.cmd)
        if name is None:
            raise errors.INVALID_COMMAND.refuse()
        kind = COMMANDS.get(name)
        if kind is None:
            raise errors.UNKNOWN_COMMAND.refuse(name[:100])
        command = _read_struct(kind, _read_object(message, kind, errors.INVALID_JSON), "", {})
        _check_target(command)
    except Refused as refused:
        raise BadMessage(refused, req_id) from None
    command.req_id = req_id
    return command


class Anybody(Struct, rename="camel"):
    """What a message may say of itself, whatever it is."""

    cmd: Raw = Raw(b"")
    req_id: Raw = Raw(b"")


def _read_object(
    body: bytes, kind: type[Struct], malformed: errors.Fault, no_object: errors.Fault | None = None
) -> Any:
    """Return an object with the fields of ``kind``, as JSON."""
    body = body.removeprefix(BOM)
    try:
        body.decode()
        return fields_of(kind, masked(body))
    except (ValueError, RecursionError) as error:
        fault = malformed
        if isinstance(error, msgspec.ValidationError) and no_object is not None and _is_json(body):
            fault = no_object
        raise fault.refuse() from None


def fields_of(kind: type[Struct], text: bytes) -> Any:
    """Return the fields of a masked object; a name with a surrogate in it is decoded, and so it may not be masked."""
    try:
        return _outline(kind).decode(text)
    except ValueError as error:
        if unknown := unknown_field(error):
            raise unknown from None
        if MARK not in text:
            raise
        return _outline(kind).decode(marked(unmasked_bytes(text)))


def unknown_field(error: Exception) -> Refused | None:
    """Return what to say if an error of the parser is about a field that there is not."""
    unknown = _UNKNOWN.match(str(error))
    return errors.UNKNOWN_FIELD.refuse(unknown[1][:100]) if unknown else None


@functools.cache
def _outline(kind: type[Struct]) -> "msgspec.json.Decoder[Any]":
    return msgspec.json.Decoder(outline_of(kind))


@functools.cache
def outline_of(kind: type[Struct]) -> type[Struct]:
    """Return a struct with the fields of ``kind`` as they were sent. It makes nothing of other fields, of which there may be a million."""
    names = {field.name: field.encode_name for field in msgspec.structs.fields(kind)}
    tag, strict = kind.__struct_config__.tag_field, kind.__struct_config__.forbid_unknown_fields
    if tag is not None:
        names[tag] = tag
    fields = [(name, Raw, Raw(b"")) for name in names]
    return msgspec.defstruct(f"{kind.__name__}Fields", fields, rename=names, forbid_unknown_fields=strict)


def _is_json(text: bytes) -> bool:
    try:
        _ANYTHING.decode(text)
    except (ValueError, RecursionError):
        return False
    return True


def _check_depth(body: bytes, fault: errors.Fault) -> None:
    if is_deep(body):
        raise fault.refuse()


@functools.cache
def shapes(kind: type[Struct]) -> tuple[tuple[msgspec.structs.FieldInfo, types.Type], ...]:
    """Return the fields of a struct, each with what it may be."""
    return tuple((field, types.type_info(field.type)) for field in msgspec.structs.fields(kind))


def decoder_of(kind: type[T]) -> "msgspec.json.Decoder[T]":
    """Return what reads a struct that is as it should be."""
    decoder = _DECODERS.get(kind)
    if decoder is None:
        decoder = _DECODERS[kind] = msgspec.json.Decoder(kind)
    return decoder


def _read_struct(kind: type[T], fields: Any, prefix: str, given: dict[str, str]) -> T:
    values: dict[str, Any] = dict(given)
    for field, shape in shapes(kind):
        if field.name in given or field.name == "req_id":
            continue
        raw: Raw = getattr(fields, field.name)
        name = prefix + field.encode_name
        if isinstance(shape, types.RawType):
            if raw:
                values[field.name] = unmasked(raw)
        elif not raw or (bytes(raw) == b"null" and not field.required):
            if field.required:
                raise errors.INVALID_FIELD.refuse(name, "is required")
        else:
            values[field.name] = read_field(shape, bytes(raw), name)
    return kind(**values)


def read_field(shape: types.Type, raw: bytes, name: str) -> Any:
    """Return the value of one field; raise when it is wrong."""
    match shape:
        case types.UnionType(types=options):
            return read_field(_choose(options, raw, name), raw, name)
        case types.Metadata(type=shape, extra=mark):
            return _read_marked(shape, mark, raw, name)
        case types.IntType() | types.FloatType():
            return _number(shape, raw, name)
        case types.BoolType():
            if raw not in (b"true", b"false"):
                raise errors.INVALID_FIELD.refuse(name, "must be a boolean")
            return raw == b"true"
        case types.StrType() | types.LiteralType():
            return _text(shape, raw, name)
        case types.StructType(cls=kind):
            return read_part(kind, raw, name)
        case types.ListType(item_type=item):
            return _list(shape, item, raw, name)
        case _:  # pragma: no cover - a new kind of field needs a row here
            raise AssertionError(f"no reader for {shape}")


def read_part(kind: type[T], raw: bytes, name: str) -> T:
    """Return a struct in a command; ``name`` is how it is called there."""
    if not raw.startswith(b"{"):
        raise errors.INVALID_FIELD.refuse(name, "must be an object")
    # Most of many are as they should be.
    with suppress(ValueError, RecursionError):
        part: T = decoder_of(kind).decode(unmasked_bytes(raw) if MARK in raw else raw)
        return part
    separator = ": " if name.endswith("]") else "."
    return _read_struct(kind, fields_of(kind, raw), name + separator, {})


def _read_marked(shape: types.Type, mark: dict[str, str] | None, raw: bytes, name: str) -> Any:
    if mark == ANY:
        return _any_text(raw)
    if mark == EPOCH_MS and raw[:1] not in b"-0123456789":
        raise errors.INVALID_FIELD.refuse(name, "must be a number: ms since 1970")
    return _number(cast("types.IntType", shape), raw, name, is_time=True)


def _choose(options: tuple[types.Type, ...], raw: bytes, name: str) -> types.Type:
    """Return the type of ``options`` that a value like ``raw`` has to fit."""
    texts = [option for option in options if isinstance(option, types.StrType)]
    others = [option for option in options if not isinstance(option, types.StrType | types.NoneType)]
    structs = [option for option in others if isinstance(option, types.StructType)]
    # A number says the same in short.
    if structs and len(others) > 1:
        if raw.startswith(b"{"):
            return structs[0]
        if raw[:1] not in b"-0123456789":
            raise errors.INVALID_FIELD.refuse(name, "must be a number or an object")
        others = [option for option in others if option not in structs]
    # int | float is a number; list | str is a list, unless it looks like a text; None was dealt with before.
    return texts[0] if texts and (raw.startswith(b'"') or not others) else others[-1]


def _list(shape: types.ListType, item: types.Type, raw: bytes, name: str) -> list[Any]:
    of_strings = isinstance(item, types.StrType)
    what = "must be an array of strings" if of_strings else "must be an array"
    if not raw.startswith(b"["):
        raise errors.INVALID_FIELD.refuse(name, what)
    if of_strings and (texts := texts_of(shape, raw)) is not None:
        return texts
    items = _ARRAY.decode(raw)
    _check_length(shape, len(items), name, "items")
    if isinstance(item, types.RawType):
        return [unmasked(element) for element in items]
    if of_strings and not all(bytes(element).startswith(b'"') for element in items):
        raise errors.INVALID_FIELD.refuse(name, what)
    return [read_field(item, bytes(element), f"{name}[{i}]") for i, element in enumerate(items)]


def texts_of(shape: types.ListType, raw: bytes) -> list[str] | None:
    """Return the texts in a list at once when all is well with them."""
    item = shape.item_type
    assert isinstance(item, types.StrType)
    try:
        texts = _TEXTS.decode(unmasked_bytes(raw))
    except ValueError:
        return None
    lengths: list[tuple[types.ListType | types.StrType, list[int]]] = [
        (shape, [len(texts)]), (item, list(map(len, texts))),
    ]  # fmt: skip
    for limits, found in lengths:
        if found and not (limits.min_length or 0) <= min(found) <= max(found) <= (limits.max_length or sys.maxsize):
            return None
    return texts


def name_of(raw: Raw | bytes | None) -> str | None:
    """Return the text in JSON; None: it is none."""
    try:
        return None if raw is None else _STRING.decode(unmasked_bytes(bytes(raw)))
    except ValueError:
        # Another type, or a lone surrogate, which is no text.
        return None


def _text(shape: types.StrType | types.LiteralType, raw: bytes, name: str) -> str:
    text = name_of(raw)
    if isinstance(shape, types.LiteralType):
        if text is None or text not in shape.values:
            raise errors.INVALID_FIELD.refuse(name, f"must be {' or '.join(map(repr, shape.values))}")
        return text
    if text is None:
        raise errors.INVALID_FIELD.refuse(name, "must be a string")
    _check_length(shape, len(text), name, "characters")
    return text


def _any_text(raw: bytes) -> str:
    """Return a text for whatever was sent; what is too long loses its middle."""
    raw = unmasked_bytes(raw)
    if not raw.startswith(b'"'):
        return cut_text(raw.decode())
    text = name_of(raw)
    return cut_text(text_of(raw) if text is None else text)


def _number(shape: types.IntType | types.FloatType, raw: bytes, name: str, *, is_time: bool = False) -> float:
    if raw[:1] not in b"-0123456789":
        raise errors.INVALID_FIELD.refuse(name, "must be a number")
    # Beyond the digits of every range float does: unlike int, it takes the longest literal.
    value = int(raw) if len(raw) < 20 and raw.lstrip(b"-").isdigit() else float(raw)
    if is_time and math.isfinite(value):
        value = math.ceil(value)
    low, high = shape.ge, shape.le
    if low is not None and value < low:
        raise errors.INVALID_FIELD.refuse(name, f"must be at least {int(low)}")
    if high is not None and value > high:
        raise errors.INVALID_FIELD.refuse(name, f"must be at most {int(high)}")
    if float(value).is_integer():
        return int(value)
    if isinstance(shape, types.IntType):
        raise errors.INVALID_FIELD.refuse(name, "must be an integer")
    return value


def _check_length(shape: types.StrType | types.ListType, length: int, name: str, unit: str) -> None:
    if shape.min_length is not None and length < shape.min_length:
        raise errors.INVALID_FIELD.refuse(name, f"must be at least {_units(shape.min_length, unit)}")
    if shape.max_length is not None and length > shape.max_length:
        raise errors.INVALID_FIELD.refuse(name, f"must be at most {_units(shape.max_length, unit)}")


def _units(n: int, unit: str) -> str:
    return f"{n} {unit if n != 1 else unit[:-1]}"
