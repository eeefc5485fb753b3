"""Schedules that a program declares beside its handlers, and how they come to the server: put there, and named when they are declared no more, but never deleted."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypedDict, get_args
from zoneinfo import ZoneInfo

import msgspec

from bunqueue_trio.client.client import Client
from bunqueue_trio.client.given import count_of
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.payloads import payload_of
from bunqueue_trio.protocol.scheduled import of_no_effect
from bunqueue_trio.protocol.times import Time, seconds_of, to_ms

Misfire = Literal["skip", "once", "all"]
Overlap = Literal["allow", "skip", "queue", "cancel"]


class When(TypedDict, total=False):
    """When a schedule runs, and what happens to slots that cannot be kept; moments are datetimes with a zone."""

    cron: str
    timezone: str | ZoneInfo
    every: Time
    at: datetime
    start: datetime
    end: datetime
    limit: int
    jitter: Time
    misfire: Misfire
    misfire_max: int
    window: Time
    overlap: Overlap
    options: c.RunOptions


DECLARED_ELSEWHERE = "declared-elsewhere"
"""The code of the refusal where another app has declared a schedule."""
_WHENS = ("cron", "every", "at")
_SPANS = ("every", "jitter", "window")
_MOMENTS = ("at", "start", "end")
_COUNTS = ("limit", "misfire_max")
_TEXTS = {"cron": "0 3 * * *", "timezone": "Europe/Berlin"}
_CHOICES: dict[str, tuple[str, ...]] = {"misfire": get_args(Misfire), "overlap": get_args(Overlap)}


class Declared(NamedTuple):
    """One schedule, as it is to be put."""

    name: str
    command: c.PutSchedule

    @classmethod
    def of(cls, name: str, queue: str, data: Any, source: str, when: When) -> "Declared":
        """Return what was declared.

        What is None was not said. The name of the schedule is in each complaint.

        Raises:
            TypeError: something is of a kind that means nothing there, a moment has no zone, the data has no JSON or a set in it, or there is no such option.
            ValueError: it is of the kind, and means nothing; or it is not clear when the schedule runs.
        """
        try:
            for what, text in (("name", name), ("queue", queue)):
                if not isinstance(text, str):
                    raise TypeError(f"its {what} must be a text, not {text!r}")
            fields = _fields_of(when)
            payload = payload_of(data, stable=True)
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"schedule {name!r}: {error}") from None
        return cls(name, c.PutSchedule(name=name, queue=queue, data=payload, source=source, **fields))


def _fields_of(when: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was said of a schedule as the server has it."""
    if unknown := when.keys() - When.__annotations__.keys():
        raise TypeError(f"a schedule has no option {min(unknown)!r}")
    said = {key: value for key, value in when.items() if value is not None}
    if sum(each in said for each in _WHENS) != 1:
        for_pushed = "" if any(each in said for each in _WHENS) else "; jobs that are pushed have an @app.handler"
        raise ValueError(f"exactly one of {', '.join(_WHENS)} says when it runs{for_pushed}")
    fields = {key: _field_of(key, value) for key, value in said.items()}
    if (no_effect := of_no_effect(*map(fields.get, ("misfire", "misfire_max", "window", "jitter")))) is not None:
        raise ValueError(no_effect)
    return fields


def _field_of(key: str, value: Any) -> Any:
    if key in _SPANS:
        return to_ms(key, seconds_of(key, value, zero=key != "every"))
    if key in _MOMENTS:
        return _moment_of(key, value)
    if key in _COUNTS:
        return count_of(key, value)
    if key == "timezone" and isinstance(value, ZoneInfo) and value.key is not None:
        return value.key
    if key in _TEXTS and not isinstance(value, str):
        raise TypeError(f"{key} must be a text such as {_TEXTS[key]!r}, not {value!r}")
    if key in _CHOICES and value not in _CHOICES[key]:
        raise ValueError(f"{key} must be one of {', '.join(_CHOICES[key])}, not {value!r}")
    if key == "options" and not isinstance(value, c.RunOptions):
        raise TypeError(f"options must be RunOptions of bunqueue_trio.commands, not {value!r}")
    return value


def _moment_of(key: str, value: object) -> int:
    if not isinstance(value, datetime):
        kind = "a date, which is a whole day" if isinstance(value, date) else repr(value)
        raise TypeError(
            f"{key} must be a datetime with a zone, such as datetime(2030, 1, 31, 9, tzinfo=UTC), not {kind}"
        )
    if value.utcoffset() is None:
        raise TypeError(f"{key} needs a zone, such as tzinfo=UTC: {value!r} is another moment on each machine")
    shown = value.astimezone(UTC).astimezone(value.tzinfo)
    if shown.replace(tzinfo=None) != value.replace(tzinfo=None):
        raise ValueError(
            f"{key}: there is no {value:%H:%M} on {value:%Y-%m-%d} in {value.tzinfo}, where the clock goes forward then"
        )
    return round(value.timestamp() * 1000)


class Synced(NamedTuple):
    """What became of the schedules of a program, by name."""

    created: list[str]
    changed: list[str]
    unchanged: list[str]
    left: list[str]
    """It declared them before, and does not any more. They go on until somebody deletes them."""
    taken: Mapping[str, str | None] = MappingProxyType({})
    """Those of them that were not this program's, and the app that had declared each; None: it was put by hand."""


async def synchronise(client: Client, source: str, declared: Sequence[Declared], *, take_over: bool = False) -> Synced:
    """Put the declared schedules, all or none, and find what else the server has from the same source.

    Raises:
        Refused: the server does not take one of them, which is named, or another program has declared it and ``take_over`` is not said;
            nothing is put. It may also raise it where somebody else changes the schedules at the same time.
    """
    names, owners, after = {each.name for each in declared}, dict[str, str | None](), None
    while True:
        page = await client.run(c.ListSchedules(after=after))
        owners |= {each.name: each.source for each in page.schedules}
        after = page.next
        if after is None:
            break
    for each in declared:
        owner = owners.get(each.name)
        if owner not in (None, source) and not take_over:
            told = f"schedule {each.name} is declared by the app {owner!r}, and this one is called {source!r}"
            raise Refused(409, told, DECLARED_ELSEWHERE)
    ahead = 0
    for each in declared:
        await _put(client, each, dry_run=True, ahead=ahead)
        ahead += each.name not in owners
    outcomes: dict[str, list[str]] = {"created": [], "changed": [], "unchanged": []}
    for each in declared:
        try:
            outcomes[await _put(client, each, dry_run=False)].append(each.name)
        except Refused as refused:
            # Somebody else has put or deleted some meanwhile.
            before = sum(map(len, outcomes.values()))
            raise Refused(refused.status, f"{refused}; {before} were put before", refused.code) from None
    left = [name for name, owner in owners.items() if owner == source and name not in names]
    taken = {each.name: owners[each.name] for each in declared if owners.get(each.name, source) != source}
    return Synced(**outcomes, left=left, taken=taken)


async def _put(client: Client, each: Declared, *, dry_run: bool, ahead: int = 0) -> str:
    try:
        return (await client.run(msgspec.structs.replace(each.command, dry_run=dry_run, ahead=ahead))).outcome
    except Refused as refused:
        raise Refused(refused.status, f"schedule {each.name}: {refused}", refused.code) from None
