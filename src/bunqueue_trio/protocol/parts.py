"""Large bulk pushes, read part by part: others are served in between.

What is wrong with one is said by who reads it whole (``codec.py``). So whatever is not as usual is left to that.
"""

from collections.abc import Callable, Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct, structs

from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol.bounds import LARGE_BYTES, limited
from bunqueue_trio.protocol.codec import is_deep
from bunqueue_trio.protocol.commands import JobSpec, PushBatch
from bunqueue_trio.protocol.commands.base import BATCH_MAX

PARTS_FROM = 256 * 1024
"""Bytes of a bulk push that is read in parts: reading a smaller one whole takes no 20 ms."""

_PART = 200  # jobs, but for large ones: about 2 ms
_PART_BYTES = 256 * 1024  # of jobs in a part
_ENCLOSING = 2  # brackets around each job
_FIELDS = msgspec.json.Decoder(dict[str, Raw])
_ITEMS = msgspec.json.Decoder(Annotated[list[Raw], Meta(max_length=BATCH_MAX)])
_COMMAS = 100_000  # in a list that is read into a list: it has no more items than that
_SPEC = msgspec.json.Decoder(JobSpec)


def read_in_parts(text: bytes, read: Callable[[bytes], Struct]) -> Iterator[PushBatch | None]:
    """Read the bulk push in ``text``, JSON, and yield None where others may run, and it at the end.

    None at the end: it is to be read whole. ``read`` reads all of it but the jobs.
    """
    try:
        if not text.isascii():
            text.decode()
            yield None
        fields = _FIELDS.decode(text)
        yield None
        jobs = bytes(fields["jobs"])
        fields["jobs"] = Raw(b"[]")
        command = read(msgspec.json.encode(fields))
        items = _items(jobs)
        yield None
        if not isinstance(command, PushBatch):
            return
        part: list[bytes] = []
        size = 0
        for item in items:
            part.append(item)
            size += len(item)
            if len(item) > LARGE_BYTES:
                return
            if len(part) == _PART or size >= _PART_BYTES:
                command.jobs += _specs(part)
                part, size = [], 0
                yield None
        command.jobs += _specs(part)
    except (ValueError, RecursionError, KeyError, Refused):
        yield None
    else:
        yield command


def _items(jobs: bytes) -> list[bytes]:
    """Return the jobs in a list, as JSON.

    Raises:
        ValueError: it is none, or they are too many.
    """
    if jobs.count(b",") < _COMMAS:
        return list(map(bytes, _ITEMS.decode(jobs)))
    found: tuple[Any, ...] = structs.astuple(limited(BATCH_MAX).decode(jobs))
    return [bytes(item) for item in found if isinstance(item, Raw)]


def _specs(items: list[bytes]) -> list[JobSpec]:
    """Return what some jobs, as JSON, are to be.

    Raises:
        ValueError: one of them is to be looked at closely.
    """
    if is_deep(b"".join(items), _ENCLOSING):
        raise ValueError("too deep")
    return [_SPEC.decode(item) for item in items]
