"""The part of the self-audit about what is kept beside unfinished jobs: facts, and how many jobs have ended of which error.

Facts are held against the disk as jobs are (`audit.py`), and against what the engine has made of them: a pause that nobody noted
ends with the next start. Of what has ended the engine has only counts: they are held against the records of one queue after the other.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from bunqueue_trio.config import AUDIT_SLICE
from bunqueue_trio.engine import rates
from bunqueue_trio.engine.configs import DEAD, DEFAULTS, IDLE, STALLS
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.gates import CONCURRENCY, PAUSED, RATE
from bunqueue_trio.engine.marks import MARK
from bunqueue_trio.engine.workers import QUIET

FactKey = tuple[str, str]
Note = Callable[[str, str], None]
"""Takes the kind of a fault, and what it is."""
_encode = msgspec.json.encode


class Kept(NamedTuple):
    """How many completed and dead jobs of a queue are kept, and how many of the latter died of each error, by its fingerprint."""

    completed: int
    failed: int
    groups: Mapping[str, int]


class FactsLook:
    """One look at all facts, first as they are stored, then as they are in memory."""

    def __init__(self, engine: Engine, note: Note) -> None:
        self._engine = engine
        self._note = note
        self._seen: set[FactKey] = set()

    def rows(self, rows: Iterable[tuple[str, str, bytes]], unsettled: Container[FactKey]) -> None:
        """Check some facts as they are stored; ``unsettled`` are those that may be about to change there."""
        for kind, key, value in rows:
            self._seen.add((kind, key))
            known = self._engine.facts.get(kind, key)
            if known == value or (kind, key) in unsettled:
                continue
            what = "is not in memory" if known is None else "is another in memory"
            self._note("facts", f"the {kind} of {key} is stored, and {what}")

    def memory(self, unsettled: Container[FactKey]) -> Iterator[int]:
        """Check that each fact in memory was stored, and is what the engine goes by; after all rows."""
        facts = self._engine.facts
        for kind in facts.kinds():
            keys = list(facts.of(kind))
            made = _MADE.get(kind)
            for start in range(0, len(keys), AUDIT_SLICE):
                for key in keys[start : start + AUDIT_SLICE]:
                    self._fact(kind, key, made, unsettled)
                yield AUDIT_SLICE
        for kind, count in _COUNTS.items():
            if (n := count(self._engine)) != len(facts.of(kind)):
                self._note("facts", f"{n} of {kind} are in force, and {len(facts.of(kind))} are noted")

    def _fact(self, kind: str, key: str, made: "Callable[[Engine, str], Any] | None", unsettled: Container[FactKey]) -> None:  # fmt: skip
        value = self._engine.facts.get(kind, key)
        if value is None:
            # It has gone since.
            return
        if (kind, key) not in self._seen and (kind, key) not in unsettled:
            self._note("facts", f"the {kind} of {key} is in memory, and is not stored")
        if made is not None and made(self._engine, key) != (_rate(rates.decode(value)) if kind == RATE else value):
            self._note("facts", f"the {kind} of {key} is not as it is noted")


def _rate(rate: rates.Rate | None) -> tuple[object, ...] | None:
    """Return what was said of a rate limit: which deliveries count changes with time."""
    return None if rate is None else (rate.limit, rate.duration, rate.until)


def _pause(engine: Engine, name: str) -> bytes | None:
    gate = engine.gates.get(name)
    return None if gate is None or gate.pause is None else _encode(gate.pause)


def _concurrency(engine: Engine, name: str) -> bytes | None:
    gate = engine.gates.get(name)
    return None if gate is None or gate.concurrency is None else b"%d" % gate.concurrency


def _rate_of(engine: Engine, name: str) -> tuple[object, ...] | None:
    gate = engine.gates.get(name)
    return None if gate is None else _rate(gate.rate)


def _quiet(engine: Engine, worker_id: str) -> bytes | None:
    worker = engine.workers.get(worker_id)
    return None if worker is None or worker.quiet_since is None else b"%d" % worker.quiet_since


_MADE: dict[str, Callable[[Engine, str], Any]] = {
    PAUSED: _pause,
    CONCURRENCY: _concurrency,
    RATE: _rate_of,
    QUIET: _quiet,
    MARK: lambda engine, key: _encode(engine.marks[key]) if key in engine.marks else None,
    DEFAULTS: lambda engine, name: _encode(engine.configs.defaults.get(name)),
    STALLS: lambda engine, name: _encode(engine.configs.stalls.get(name)),
    DEAD: lambda engine, name: _encode(engine.configs.dead.get(name)),
    IDLE: lambda engine, name: b"%d" % engine.configs.idle[name] if name in engine.configs.idle else None,
}
"""What the engine goes by, as it would be noted."""

_COUNTS: dict[str, Callable[[Engine], int]] = {
    PAUSED: lambda engine: sum(gate.pause is not None for gate in engine.gates.values()),
    CONCURRENCY: lambda engine: sum(gate.concurrency is not None for gate in engine.gates.values()),
    RATE: lambda engine: sum(gate.rate is not None for gate in engine.gates.values()),
    QUIET: lambda engine: sum(worker.quiet_since is not None for worker in engine.workers.values()),
    MARK: lambda engine: len(engine.marks),
}
"""How many are in force."""


def counted(engine: Engine, queue: str) -> Kept:
    """Return how many jobs of a queue have ended and are kept, by the records that the engine keeps count of."""
    return Kept(*engine.archive.kept_of(queue), engine.archive.dead_groups.sizes(queue))


def differing(queue: str, told: Kept, stored: Kept) -> str:
    """Return what is wrong where the counts of a queue are not those of its records."""
    if told[:2] != stored[:2]:
        return f"queue {queue} counts {told.completed} completed and {told.failed} failed jobs, and keeps {stored.completed} and {stored.failed}"
    key = next(key for key in sorted({*told.groups, *stored.groups}) if told.groups.get(key) != stored.groups.get(key))
    return f"queue {queue} counts {told.groups.get(key, 0)} dead letters of error {key}, and keeps {stored.groups.get(key, 0)}"
