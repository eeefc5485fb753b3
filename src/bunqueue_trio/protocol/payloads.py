"""The JSON of what a program gives as payload; it refuses what JSON would say as something else, or in another way next time."""

from collections.abc import Iterable
from dataclasses import is_dataclass
from math import isfinite
from typing import Any

import msgspec
from msgspec import Raw

# Characters of what is refused.
_SHOWN = 100


def payload_of(value: Any, *, stable: bool = False) -> Raw:
    """Return the JSON of a payload; ``stable``: it is to be the same in each process.

    Raises:
        TypeError: it has no JSON, or is to be stable and has a set in it.
        ValueError: it has a number that JSON does not know.
    """
    payload = msgspec.json.encode(value)
    # What is refused has become one of these; a payload without is not looked through.
    if b"null" in payload or (stable and b"[" in payload):
        _look_through(value, stable=stable)
    return Raw(payload)


def _look_through(value: Any, *, stable: bool) -> None:
    # Nothing in it leads back to itself: it could be encoded.
    todo = [value]
    while todo:
        each = todo.pop()
        if isinstance(each, str | int) or each is None:
            continue
        if isinstance(each, dict):
            todo.extend(each.values())
        elif isinstance(each, list | tuple):
            todo.extend(each)
        elif isinstance(each, set | frozenset):
            if stable:
                raise TypeError(f"a set has another order in each process, a sorted list has not: {each!r:.{_SHOWN}}")
            todo.extend(each)
        elif isinstance(each, float):
            if not isfinite(each):
                raise ValueError(f"JSON has no number {each!r}, and None for null")
        else:
            todo.extend(getattr(each, name) for name in _fields_of(each) if hasattr(each, name))


def _fields_of(value: object) -> Iterable[str]:
    """Return the names of the fields of a struct or dataclass, or of an object of attrs; nothing else has any."""
    if isinstance(value, msgspec.Struct):
        return value.__struct_fields__
    if is_dataclass(value):
        return value.__dataclass_fields__
    return [each.name for each in getattr(value, "__attrs_attrs__", ())]
