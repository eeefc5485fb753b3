"""How single queues treat their jobs where neither a push nor a pull says it: what was said of a queue, kept as facts.

A queue that nobody has said anything of costs one look into an empty dictionary.
"""

from typing import Any

import msgspec
from msgspec import Struct

from bunqueue_trio.config import AUTO_RETRIES, AUTO_RETRY_INTERVAL_MS, CONFIGS_MAX, NO_LIMIT
from bunqueue_trio.engine.facts import Facts
from bunqueue_trio.engine.job import DEFAULT_OPTIONS, Shape
from bunqueue_trio.engine.shelf import Shelf
from bunqueue_trio.protocol import commands as c

DEFAULTS, STALLS, DEAD = "defaults", "stall-config", "dlq-config"
"""The kinds of facts that hold what was said of a queue."""
IDLE = "idle-queue"
"""The kind of those that hold since when one has had nothing else; see ``idle.py``."""


class Defaults(Struct, frozen=True, omit_defaults=True):
    """What holds for a job whose push does not say it."""

    max_attempts: int = DEFAULT_OPTIONS.max_attempts
    backoff: int = DEFAULT_OPTIONS.backoff
    shape: Shape | None = None
    ttl: int | None = None
    timeout: int | None = None
    remove_on_complete: bool = False
    remove_on_fail: bool = False
    said: tuple[str, ...] = ()
    """Fields that somebody has said, sorted: what is as everywhere may have been said, too. Of a state before these it lacks."""


STANDARD = Defaults()
"""The contract's."""


class StallRule(Struct, frozen=True, omit_defaults=True):
    """When jobs stall; None: as the server has it."""

    enabled: bool = True
    interval: int | None = None
    most: int | None = None
    grace: int = 0
    said: tuple[str, ...] = ()


class DeadRule(Struct, frozen=True, omit_defaults=True):
    """Which dead letters are kept, of those that the server keeps, None: all of them; and whether they are retried by themselves."""

    max_age: int | None = None
    max_entries: int | None = None
    auto_retry: bool = False
    interval: int = AUTO_RETRY_INTERVAL_MS
    most: int = AUTO_RETRIES
    said: tuple[str, ...] = ()


Rule = Defaults | StallRule | DeadRule

_DEFAULTS = msgspec.json.Decoder(Defaults).decode
_RULE = msgspec.json.Decoder(StallRule).decode
_DEAD = msgspec.json.Decoder(DeadRule).decode
USUAL = StallRule()
ALL = DeadRule()


class Configs:
    """What was said of all queues."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self.defaults: dict[str, Defaults] = {}
        self.stalls: dict[str, StallRule] = {}
        self.dead: dict[str, DeadRule] = {}
        self.names: Shelf = Shelf()
        """Of the queues of which anything was said, in order."""
        self.idle: dict[str, int] = {}
        """Since when those have had nothing else that have not; see ``idle.py``."""

    def of(self, name: str) -> list[str]:
        """Return the kinds of what was said of a queue."""
        known = ((DEFAULTS, self.defaults), (STALLS, self.stalls), (DEAD, self.dead))
        return [kind for kind, rules in known if name in rules]

    def load(self) -> None:
        """Take up what the facts, just loaded, tell of."""
        self.defaults = {name: _DEFAULTS(value) for name, value in self._facts.of(DEFAULTS).items()}
        self.stalls = {name: _RULE(value) for name, value in self._facts.of(STALLS).items()}
        self.dead = {name: _DEAD(value) for name, value in self._facts.of(DEAD).items()}
        self.names = Shelf(sorted({*self.defaults, *self.stalls, *self.dead}))
        self.idle = {name: int(value) for name, value in self._facts.of(IDLE).items()}

    def note_idle(self, name: str, now: int) -> None:
        """Note that a queue has nothing but what was said of it."""
        self.idle[name] = now
        self._facts.set(IDLE, name, b"%d" % now)

    def note_use(self, name: str) -> None:
        """Note that something has come to a queue, or was said of it."""
        if self.idle.pop(name, None) is not None:
            self._facts.delete(IDLE, name)

    def set_defaults(self, name: str, defaults: Defaults) -> bool:
        """Let these hold for a queue; return whether that changes anything.

        Raises:
            Refused: enough queues have some.
        """
        return self._set(DEFAULTS, self.defaults, name, defaults, is_usual=defaults == STANDARD)

    def set_stalls(self, name: str, rule: StallRule) -> bool:
        """Do the same for when its jobs stall."""
        return self._set(STALLS, self.stalls, name, rule, is_usual=rule == USUAL)

    def set_dead(self, name: str, rule: DeadRule) -> bool:
        """Do the same for which of its dead letters are kept."""
        return self._set(DEAD, self.dead, name, rule, is_usual=rule == ALL)

    def dead_kept(self, now: int) -> dict[str, tuple[int, int]]:
        """Return of each queue that says it how many dead letters are kept at most, and since when."""
        return {
            name: (
                NO_LIMIT if rule.max_entries is None else rule.max_entries,
                0 if rule.max_age is None else now - rule.max_age,
            )
            for name, rule in self.dead.items()
            if not (rule.max_entries is None and rule.max_age is None)
        }

    def drop(self, name: str) -> bool:
        """Forget what was said of a queue; return whether anything was."""
        did = name in self.defaults or name in self.stalls or name in self.dead
        self._forget(DEFAULTS, self.defaults, name)
        self._forget(STALLS, self.stalls, name)
        self._forget(DEAD, self.dead, name)
        return did

    def lease(self, name: str, usual: int) -> int:
        """Return how long a job of a queue may be without a word of its worker."""
        rule = self.stalls.get(name, USUAL)
        return (usual if rule.interval is None else rule.interval) + rule.grace

    def is_too_many(self, name: str, stalls: int, usual: int) -> bool:
        """Return whether a job of a queue has stalled too often."""
        rule = self.stalls.get(name, USUAL)
        return rule.enabled and stalls > (usual if rule.most is None else rule.most)

    def _set(self, kind: str, known: dict[str, Any], name: str, value: Rule, *, is_usual: bool) -> bool:
        if is_usual:
            return self._forget(kind, known, name)
        if name not in known and len(known) >= CONFIGS_MAX:
            raise c.TOO_MANY_CONFIGS.refuse(CONFIGS_MAX)
        if not self.of(name):
            self.names.add(name)
        self.note_use(name)
        known[name] = value
        return self._facts.set(kind, name, msgspec.json.encode(value))

    def _forget(self, kind: str, known: dict[str, Any], name: str) -> bool:
        self._facts.delete(kind, name)
        if known.pop(name, None) is None:
            return False
        if not self.of(name):
            self.names.remove(name)
            self.note_use(name)
        return True
