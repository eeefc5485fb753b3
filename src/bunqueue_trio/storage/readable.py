"""Which facts and lines of trails a server could not read, for whoever looks at a store from outside: a fact that it cannot read stops its start."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from bunqueue_trio.engine import rates
from bunqueue_trio.engine.configs import DEAD, DEFAULTS, STALLS, DeadRule, Defaults, StallRule
from bunqueue_trio.engine.gates import CONCURRENCY, PAUSED, RATE, Pause
from bunqueue_trio.engine.marks import MARK, Mark
from bunqueue_trio.engine.trails import ACTIONS, ATTEMPTS, LOG
from bunqueue_trio.engine.workers import QUIET
from bunqueue_trio.protocol.lines import Action, Attempt, LogLine

_ANY: Callable[[bytes], Any] = msgspec.json.Decoder().decode
_FACTS: dict[str, Callable[[bytes], Any]] = {
    PAUSED: msgspec.json.Decoder(Pause).decode, CONCURRENCY: int, RATE: rates.decode, QUIET: int,
    MARK: msgspec.json.Decoder(Mark).decode, DEFAULTS: msgspec.json.Decoder(Defaults).decode,
    STALLS: msgspec.json.Decoder(StallRule).decode, DEAD: msgspec.json.Decoder(DeadRule).decode,
}  # fmt: skip
"""Of the kinds that an operator sets; the others are some JSON."""
_LINES: dict[str, Callable[[bytes], Any]] = {
    ACTIONS: msgspec.json.Decoder(Action).decode, ATTEMPTS: msgspec.json.Decoder(Attempt).decode,
    LOG: msgspec.json.Decoder(LogLine).decode,
}  # fmt: skip


def unreadable_facts(rows: Iterable[tuple[Any, ...]]) -> Iterator[str]:
    """Yield the kind and key of each fact that cannot be read."""
    for kind, key, value in rows:
        if not _is_readable(_FACTS.get(kind, _ANY), value):
            yield f"{kind} of {key}"


def unreadable_lines(rows: Iterable[tuple[Any, ...]]) -> Iterator[str]:
    """Yield the kind, and the job, of each line that cannot be read."""
    for kind, key, body in rows:
        if not _is_readable(_LINES.get(kind, _ANY), body):
            yield f"{kind} of {key}" if key else str(kind)


def _is_readable(read: Callable[[bytes], Any], value: object) -> bool:
    try:
        read(value)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        return False
    return True
