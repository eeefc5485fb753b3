"""Lists that are too long, found before anything is made of what is in them.

Theory of operation. A decoder holds a list against its limit when it has made all of its items: of 65,000 jobs in
256 KiB that is 60 ms. So the lists of a large input are looked at first, as the bytes they are. One with as many
commas as it may have items is taken apart, which is 6 ms at most: larger inputs are read in parts (``parts.py``). What
else is wrong with an input is not looked at here.
"""

import functools
from typing import Any

import msgspec
from msgspec import Raw, Struct
from msgspec import inspect as types

from bunqueue_trio import errors
from bunqueue_trio.config import DEPENDENCIES_MAX
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol.commands import EMPTY, FAILURES_BYTES, Command, FailBatch, JobSpec, PushBatch

LARGE_BYTES = 64 * 1024
"""Inputs up to this are read as they are: no list in them takes 20 ms."""

_ITEMS = msgspec.json.Decoder(list[Raw])


def check_lists(kind: type[Command], text: bytes) -> None:
    """Raise ``Refused`` (400) when a list of a command of this kind, as JSON, has more items than it may have, or bytes."""
    if kind is FailBatch and len(text) > FAILURES_BYTES:
        raise errors.INVALID_FIELD.refuse("failures", f"must be at most {FAILURES_BYTES} bytes")
    found = _lists(kind, text, "")
    if kind is PushBatch and "jobs" in found:
        _check_jobs(found["jobs"])


def too_many_dependencies() -> Refused:
    """Return the refusal of jobs that together depend on too many others."""
    return errors.INVALID_FIELD.refuse("dependsOn", f"must name at most {DEPENDENCIES_MAX} jobs in one command")


def _check_jobs(jobs: bytes) -> None:
    try:
        items = list(map(bytes, _ITEMS.decode(jobs)))
    except (ValueError, RecursionError):
        return
    names = b'"dependsOn"' in jobs
    if not names and max(map(len, items), default=0) <= LARGE_BYTES:
        # The common case.
        return
    dependencies = [
        _lists(JobSpec, job, f"jobs[{i}]: ").get("dependsOn", b"")
        for i, job in enumerate(items)
        if names or len(job) > LARGE_BYTES
    ]
    # A comma may stand in a name, so that there are many is only a reason to count.
    if sum(each.count(b",") + 1 for each in dependencies if len(each) > len(b"[]")) <= DEPENDENCIES_MAX:
        return
    named = 0
    for each in dependencies:
        named += len(_ITEMS.decode(each)) if each.startswith(b"[") else 0
        if named > DEPENDENCIES_MAX:
            raise too_many_dependencies()


def _lists(kind: type[Struct], text: bytes | Raw, prefix: str) -> dict[str, bytes]:
    """Return the lists of a struct, as JSON.

    Raises:
        Refused: one of them is too long.
    """
    outline, limits, parts = _outline(kind)
    if not limits and not parts:
        return {}
    try:
        found = outline.decode(text)
    except (ValueError, RecursionError):
        return {}
    for name, part in parts.items():
        _lists(part, getattr(found, name), f"{prefix}{name}.")
    lists = {}
    for name, most in limits.items():
        raw = bytes(getattr(found, name))
        if raw:
            lists[name] = raw
        if raw.count(b",") < most:
            continue
        try:
            items = len(_ITEMS.decode(raw))
        except (ValueError, RecursionError):
            # Who reads it whole says what is wrong.
            continue
        if items > most:
            raise errors.INVALID_FIELD.refuse(prefix + name, f"must be at most {most} items")
    return lists


@functools.cache
def _outline(kind: type[Struct]) -> tuple["msgspec.json.Decoder[Any]", dict[str, int], dict[str, type[Struct]]]:
    """Return what reads the lists of a struct as they are, how many items each may have, and its structs; by their names in JSON."""
    limits, parts = {}, {}
    for field in msgspec.structs.fields(kind):
        shape = types.type_info(field.type)
        options = shape.types if isinstance(shape, types.UnionType) else (shape,)
        for option in options:
            if isinstance(option, types.ListType) and option.max_length is not None:
                limits[field.encode_name] = option.max_length
            if isinstance(option, types.StructType):
                parts[field.encode_name] = option.cls
    outline = msgspec.defstruct(f"{kind.__name__}Lists", [(name, Raw, EMPTY) for name in (*limits, *parts)])
    return msgspec.json.Decoder(outline), limits, parts
