"""What a producer says of a job, or a worker of one that has failed, in seconds, and the same as fields of a command, in milliseconds."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite
from typing import Any, Literal, Required, TypedDict, overload

from msgspec import UNSET

from bunqueue_trio.protocol.payloads import payload_of
from bunqueue_trio.protocol.replies import BackoffView


class Backoff(TypedDict, total=False):
    """How long a failed job waits for its next attempt: ``delay`` seconds each time, or doubled with each one.

    Never more than ``max_delay`` seconds. With ``jitter`` 0.2 it is up to a fifth shorter, differently for each attempt.
    """

    type: Required[Literal["fixed", "exponential"]]
    delay: Required[float]
    max_delay: float | None
    jitter: float | None


class PushOptions(TypedDict, total=False):
    """How a job is to be treated; times in seconds. What is left out, or None, is the server's default."""

    priority: int | None
    delay: float | None
    max_attempts: int | None
    backoff: float | Backoff | None
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
    repeat_name: str | None
    name: str | None


class JobSpec(PushOptions, total=False):
    """One of several jobs to push: its options, and its ``data``."""

    data: Any


class FailureSpec(TypedDict, total=False):
    """One of several failed attempts: the ``id`` of its job, and what is said of it. ``retry_in``: seconds."""

    id: Required[str]
    token: str | None
    error: str | None
    stack: str | None
    unrecoverable: bool | None
    retry_in: float | None


_TIMES = frozenset({"delay", "backoff", "ttl", "timeout", "repeat_every"})


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


_FIELDS = {name: _camel(name) for name in PushOptions.__annotations__}


def _hint(name: str) -> str:
    """Return which option is meant, if it is one as the API calls it."""
    meant = [option for option, field in _FIELDS.items() if field == name]
    return f"; it is {meant[0]} here" if meant else ""


def push_fields(data: Any, options: Mapping[str, Any], new_id: Callable[[], str]) -> dict[str, Any]:
    """Return the fields of a push; it gets an id, so that it can be found again if its answer is lost.

    Raises:
        TypeError: there is no such option, or the data has no JSON.
        ValueError: the data has a number that JSON does not know.
    """
    fields: dict[str, Any] = {"data": payload_of(data)}
    for name, value in options.items():
        if name not in _FIELDS:
            raise TypeError(f"a push has no option {name!r}{_hint(name)}")
        if value is not None:
            fields[_FIELDS[name]] = _in_ms(value) if name in _TIMES else value
    every, limit, name = (fields.pop(f"repeat{part}", None) for part in ("Every", "Limit", "Name"))
    if every is not None:
        fields["repeat"] = {"every": every, "limit": limit} | ({} if name is None else {"name": name})
    fields.setdefault("jobId", None)
    if fields["jobId"] is None:
        fields["jobId"] = new_id()
    return fields


def failure_fields(failures: Iterable[FailureSpec]) -> list[dict[str, Any]]:
    """Return the fields of failures.

    Raises:
        TypeError: one has something that no failure has.
    """
    found = []
    for failure in failures:
        if unknown := failure.keys() - FailureSpec.__annotations__.keys():
            raise TypeError(f"a failure has no {min(unknown)!r}")
        fields: dict[str, Any] = {name: value for name, value in failure.items() if value is not None}
        if "retry_in" in fields:
            fields["retryIn"] = to_ms(fields.pop("retry_in"))
        found.append(fields)
    return found


def _in_ms(given: float | Mapping[str, Any]) -> int | dict[str, Any]:
    """Return milliseconds, or the fields of a backoff."""
    if not isinstance(given, Mapping):
        return to_ms(given)
    if unknown := given.keys() - Backoff.__annotations__.keys():
        raise TypeError(f"a backoff has no option {min(unknown)!r}")
    return {_camel(name): to_ms(value) if "delay" in name else value for name, value in given.items()}


def backoff_of(view: int | BackoffView) -> float | Backoff:
    """Return a backoff that the server shows, in seconds, as it was given."""
    if isinstance(view, int):
        return view / 1000
    backoff = Backoff(type="fixed" if view.type == "fixed" else "exponential", delay=view.delay / 1000)
    if view.max_delay is not UNSET:
        backoff["max_delay"] = view.max_delay / 1000
    if view.jitter is not UNSET:
        backoff["jitter"] = view.jitter
    return backoff


@overload
def to_ms(seconds: float) -> int: ...
@overload
def to_ms(seconds: float | None) -> int | None: ...
def to_ms(seconds: Any) -> int | None:
    """Return milliseconds.

    Raises:
        TypeError: it is no number of seconds.
        ValueError: it is endless, or no number at all.
    """
    if seconds is None:
        return None
    if isinstance(seconds, str):
        raise TypeError(f"a time is a number of seconds here, not {seconds!r}")
    if not isfinite(seconds):
        raise ValueError(f"a time must have an end, not {seconds!r} seconds")
    ms: int = round(seconds * 1000)
    return ms
