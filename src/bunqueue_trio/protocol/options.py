"""What a producer says of a job, or a worker of one that it holds, and the same as fields of a command, in milliseconds."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Required, SupportsFloat, TypedDict

import msgspec
from msgspec import UNSET

from bunqueue_trio.logs.printable import name_of
from bunqueue_trio.protocol.cutting import cut_text
from bunqueue_trio.protocol.payloads import payload_of
from bunqueue_trio.protocol.replies import BackoffView
from bunqueue_trio.protocol.times import Time, to_ms


class Backoff(TypedDict, total=False):
    """How long a failed job waits for its next attempt: ``delay`` each time, or doubled with each one.

    Never more than ``max_delay``. With ``jitter`` 0.2 it is up to a fifth shorter, differently for each attempt.
    """

    type: Required[Literal["fixed", "exponential"]]
    delay: Required[Time]
    max_delay: Time | None
    jitter: float | None


class PushOptions(TypedDict, total=False):
    """How a job is to be treated; times are a :data:`Time`. What is left out, or None, is the server's default."""

    priority: int | None
    delay: Time | None
    max_attempts: int | None
    backoff: Time | Backoff | None
    ttl: Time | None
    timeout: Time | None
    unique_key: str | None
    job_id: str | None
    tags: Sequence[str] | None
    group_id: str | None
    lifo: bool | None
    remove_on_complete: bool | None
    remove_on_fail: bool | None
    durable: bool | None
    depends_on: Sequence[str] | None
    repeat_every: Time | None
    repeat_limit: int | None
    repeat_name: str | None
    name: str | None


class JobSpec(PushOptions, total=False):
    """One of several jobs to push: its options, and its ``data``."""

    data: Any


class FailureSpec(TypedDict, total=False):
    """One of several failed attempts: the ``id`` of its job, and what is said of it."""

    id: Required[str]
    token: str | None
    error: str | None
    stack: str | None
    unrecoverable: bool | None
    retry_in: Time | None


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
            fields[_FIELDS[name]] = _in_ms(name, value) if name in _TIMES else value
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
            fields["retryIn"] = to_ms("retry_in", fields.pop("retry_in"))
        found.append(fields)
    return found


def _in_ms(name: str, given: Time | Mapping[str, Any]) -> int | dict[str, Any]:
    """Return milliseconds, or the fields of a backoff."""
    if not isinstance(given, Mapping):
        return to_ms(name, given)
    if unknown := given.keys() - Backoff.__annotations__.keys():
        raise TypeError(f"a backoff has no option {min(unknown)!r}")
    return {
        _camel(key): to_ms(f"{key} of a backoff", value) if "delay" in key else value for key, value in given.items()
    }


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


def percent_of(value: SupportsFloat) -> float:
    """Return how far a job is as the server takes it: what is beyond 0 or 100 is that, and what is not a number is 0.

    A sum that is a little wrong must not cost an attempt.

    Raises:
        TypeError: it is of no kind of number.
    """
    if isinstance(value, bool) or not isinstance(value, SupportsFloat):
        raise TypeError(f"progress must be a number from 0 to 100, not {value!r}")
    percent = value if isinstance(value, int | float) else float(value)
    return max(0, min(percent, 100)) if percent == percent else 0


def said(text: object) -> str | None:
    """Return what is said for people as a text that the server takes whatever it is; None for None.

    What is no text is written out. Of a very long one the middle is left out here, for the server takes no message of any length.
    """
    if text is None:
        return None
    if not isinstance(text, str):
        try:
            text = msgspec.json.encode(text).decode()
        except (TypeError, ValueError, RecursionError):
            text = _written(text)
    return cut_text(text)


def _written(value: object) -> str:
    try:
        return str(value)
    except Exception:
        return name_of(type(value))
