"""Pictures of servers, as the rules of findings see them: good ones, and short words to make a bad one."""

from typing import Any

import trio
from msgspec.structs import replace

from bunqueue_trio.config import Settings
from bunqueue_trio.pages.findings import Picture, find
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.history import Minute, QueueMinute
from bunqueue_trio.runtime.picture import QueueLook
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.statistics import Statistics
from bunqueue_trio.storage.memory import MemoryStore

NOW = 1_700_000_000_000

MINUTE = 60_000


def told() -> Statistics:
    async def make() -> Statistics:
        return Server(Settings(), MemoryStore(), Clock(NOW)).statistics()

    return replace(trio.run(make), now=NOW)


GOOD = told()


def queue(name: str = "q", **fields: Any) -> QueueLook:
    empty = QueueLook(name, 0, 0, 0, 0, 0, 0, 0, None, 0, None, None, None)
    return empty._replace(**fields)


def minute(ago: int, **fields: Any) -> Minute:
    zeros = {
        name: (0,) * len(GOOD.histograms["commit"].counts) if name in ("commits", "lags") else 0
        for name in Minute._fields
    }
    return Minute(**zeros | {"at": NOW - ago * MINUTE, "is_failing": False} | fields)


def line(*rows: dict[str, int]) -> list[QueueMinute]:
    zeros = dict.fromkeys(QueueMinute._fields, 0)
    return [QueueMinute(**zeros | {"at": NOW - (len(rows) - i) * MINUTE} | row) for i, row in enumerate(rows)]


def found(picture: Picture) -> list[str]:
    return [each.code for each in find(picture)]


def slow(name: str, bound_ms: float, n: int = 100) -> Statistics:
    figures = GOOD.histograms[name]
    place = list(figures.bounds).index(bound_ms)
    counts = tuple(n if i == place else 0 for i in range(len(figures.counts)))
    return replace(GOOD, histograms=dict(GOOD.histograms) | {name: figures._replace(counts=counts)})
