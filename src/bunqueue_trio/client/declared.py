"""Schedules that a program declares beside its handlers, and how they come to the server: put, told, never deleted."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple, TypedDict

import msgspec
from msgspec import Raw

from bunqueue_trio.client.client import Client
from bunqueue_trio.errors import Refused
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
    taken: Sequence[str] = ()
    """Those of them that somebody else had declared, or put by hand."""


async def synchronise(client: Client, source: str, declared: Sequence[Declared], *, take_over: bool = False) -> Synced:
    """Put what is declared, all of it or nothing, and look what else the server has of the same source.

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
            raise Refused(409, f"schedule {each.name} is declared by {owner}", "declared-elsewhere")
    for each in declared:
        await _put(client, each, dry_run=True)
    outcomes: dict[str, list[str]] = {"created": [], "changed": [], "unchanged": []}
    for each in declared:
        try:
            outcomes[await _put(client, each, dry_run=False)].append(each.name)
        except Refused as refused:  # somebody else has put or deleted some meanwhile
            before = sum(map(len, outcomes.values()))
            raise Refused(refused.status, f"{refused}; {before} were put before", refused.code) from None
    left = [name for name, owner in owners.items() if owner == source and name not in names]
    taken = [each.name for each in declared if owners.get(each.name, source) != source]
    return Synced(**outcomes, left=left, taken=tuple(taken))


async def _put(client: Client, each: Declared, *, dry_run: bool) -> str:
    try:
        return (await client.run(msgspec.structs.replace(each.command, dry_run=dry_run))).outcome
    except Refused as refused:
        raise Refused(refused.status, f"schedule {each.name}: {refused}", refused.code) from None
