"""What a producer says of a job, in seconds, and the same as fields of a command, in milliseconds."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict, overload

import msgspec
from msgspec import Raw


class PushOptions(TypedDict, total=False):
    """How a job is to be treated; times in seconds. What is left out, or None, is the server's default."""

    priority: int | None
    delay: float | None
    max_attempts: int | None
    backoff: float | None
    ttl: float | None
    timeout: float | None
    unique_key: str | None
    job_id: str | None
    tags: Sequence[str] | None
    group_id: str | None
    lifo: bool | None
    remove_on_complete: bool | None
    remove_on_fail: bool | None
    durable: bool | None
    depends_on: Sequence[str] | None
    repeat_every: float | None
    repeat_limit: int | None


class JobSpec(PushOptions, total=False):
    """One of several jobs to push: its options, and its ``data``."""

    data: Any


_TIMES = frozenset({"delay", "backoff", "ttl", "timeout", "repeat_every"})


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


_FIELDS = {name: _camel(name) for name in PushOptions.__annotations__}


def push_fields(data: Any, options: Mapping[str, Any], new_id: Callable[[], str]) -> dict[str, Any]:
    """Return the fields of a push; it gets an id, so that it can be found again if its answer is lost.

    Raises:
        TypeError: there is no such option, or the data has no JSON.
    """
    fields: dict[str, Any] = {"data": Raw(msgspec.json.encode(data))}
    for name, value in options.items():
        if name not in _FIELDS:
            raise TypeError(f"a push has no option {name!r}")
        if value is not None:
            fields[_FIELDS[name]] = to_ms(value) if name in _TIMES else value
    every, limit = fields.pop("repeatEvery", None), fields.pop("repeatLimit", None)
    if every is not None:
        fields["repeat"] = {"every": every, "limit": limit}
    fields.setdefault("jobId", None)
    if fields["jobId"] is None:
        fields["jobId"] = new_id()
    return fields


@overload
def to_ms(seconds: float) -> int: ...
@overload
def to_ms(seconds: float | None) -> int | None: ...
def to_ms(seconds: float | None) -> int | None:
    """Return milliseconds."""
    return None if seconds is None else round(seconds * 1000)
