"""Schedules that a program declares beside its handlers, and how they come to the server: put, told, never deleted."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple, TypedDict

import msgspec
from msgspec import Raw

from bunqueue_trio.client.client import Client
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.options import to_ms


class When(TypedDict, total=False):
    """When a schedule runs, and what happens to slots that cannot be kept; times in seconds, or as datetimes with a zone."""

    cron: str
    timezone: str
    every: float
    at: datetime
    start: datetime
    end: datetime
    limit: int
    jitter: float
    misfire: Literal["skip", "once", "all"]
    misfire_max: int
    window: float
    overlap: Literal["allow", "skip", "queue", "cancel"]
    options: c.RunOptions


class Declared(NamedTuple):
    """One schedule, as it is to be put."""

    name: str
    command: c.PutSchedule

    @classmethod
    def of(cls, name: str, queue: str, data: Any, source: str, when: When) -> "Declared":
        """Return what was declared.

        Raises:
            TypeError: the data has no JSON, there is no such option, or a time has no zone.
        """
        fields: dict[str, Any] = dict(when)
        if unknown := fields.keys() - When.__annotations__.keys():
            raise TypeError(f"a schedule has no option {min(unknown)!r}")
        for each in ("every", "jitter", "window"):
            if each in fields:
                fields[each] = to_ms(fields[each])
        for each in ("at", "start", "end"):
            if each in fields:
                moment: datetime = fields[each]
                if moment.tzinfo is None:
                    raise TypeError(f"{each} needs a zone, such as datetime.UTC")
                fields[each] = round(moment.timestamp() * 1000)
        payload = Raw(msgspec.json.encode(data))
        return cls(name, c.PutSchedule(name=name, queue=queue, data=payload, source=source, **fields))


class Synced(NamedTuple):
    """What became of the schedules of a program, by name."""

    created: list[str]
    changed: list[str]
    unchanged: list[str]
    left: list[str]
    """It declared them before, and does not any more. They go on until somebody deletes them."""


async def synchronise(client: Client, source: str, declared: Sequence[Declared]) -> Synced:
    """Put what is declared, and look what else the server has of the same source.

    Raises:
        Refused: the server does not take one of them; those before it are put.
    """
    outcomes: dict[str, list[str]] = {"created": [], "changed": [], "unchanged": []}
    for each in declared:
        outcomes[(await client.run(each.command)).outcome].append(each.name)
    names, left, after = {each.name for each in declared}, list[str](), None
    while True:
        page = await client.run(c.ListSchedules(after=after))
        left += [each.name for each in page.schedules if each.source == source and each.name not in names]
        after = page.next
        if after is None:
            return Synced(**outcomes, left=left)
