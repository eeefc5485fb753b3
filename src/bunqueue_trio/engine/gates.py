"""What stands between the ready jobs of a queue and those who ask for them.

A queue that nobody has said anything of has no gate, and costs its pulls one look into a dictionary. What was said is
kept as facts, in the very step in which it takes effect. A gate that is shut lets nothing out; jobs come in, wait,
expire and end behind it as always.
"""

from heapq import heapify, heappop, heappush

import msgspec
from msgspec import Struct

from bunqueue_trio import errors
from bunqueue_trio.config import GATES_MAX
from bunqueue_trio.engine import rates
from bunqueue_trio.engine.facts import Facts
from bunqueue_trio.engine.rates import Rate

PAUSED, CONCURRENCY, RATE = "paused", "concurrency", "rate-limit"
"""The kinds of facts that hold what was said of a queue."""

# Fewer entries than that are not worth a sweep.
_SWEEP_MIN = 64


class Pause(Struct, frozen=True, rename="camel"):
    """Nothing of a queue is delivered; times in epoch ms."""

    since: int
    reason: str | None = None
    until: int | None = None
    by: str | None = None
    """Who has paused it, as far as that is kept."""


_PAUSE = msgspec.json.Decoder(Pause)


class Gate:
    """The gate of one queue, as it was set."""

    __slots__ = ("concurrency", "opens_at", "pause", "rate")

    def __init__(self) -> None:
        self.pause: Pause | None = None
        self.concurrency: int | None = None
        """How many jobs may be active at once; None: any number."""
        self.rate: Rate | None = None
        self.opens_at: int | None = None
        """When the rate limit has room again; only while it has none."""

    def is_open(self, active: int) -> bool:
        """Return whether a job may leave the queue while ``active`` jobs of it are with workers."""
        return self.pause is None and self.opens_at is None and (self.concurrency is None or active < self.concurrency)

    def times(self) -> tuple[int | None, ...]:
        """Return when a pause or a limit of it ends by itself."""
        return (
            None if self.pause is None else self.pause.until,
            None if self.rate is None else self.rate.until,
            self.opens_at,
        )


class Gates(dict[str, Gate]):
    """The gates of all queues that have one, by name."""

    def __init__(self, facts: Facts) -> None:
        super().__init__()
        self._facts = facts
        self._ends: list[tuple[int, str]] = []
        """A heap of when gates open or limits end; what is not so any more is skipped when it surfaces."""
        self.due: int | None = None
        """When the next of them does by itself, or None."""

    def load(self, now: int) -> None:
        """Put up what the facts, just loaded, tell of."""
        for name, value in self._facts.of(PAUSED).items():
            self._shut(name, _PAUSE.decode(value))
        for name, value in self._facts.of(CONCURRENCY).items():
            self._of(name).concurrency = int(value)
        for name, value in self._facts.of(RATE).items():
            rate = self._of(name).rate = rates.decode(value)
            rate.resume(now)
            self._expect(name, rate.until)
            self._fill(name, now)

    @property
    def paused(self) -> int:
        """How many queues are paused."""
        return len(self._facts.of(PAUSED))

    @property
    def limited(self) -> int:
        """How many queues have a limit of active jobs."""
        return len(self._facts.of(CONCURRENCY))

    @property
    def rate_limited(self) -> int:
        """How many queues have a limit of jobs in a time."""
        return len(self._facts.of(RATE))

    def pause(self, name: str, now: int, reason: str | None, until: int | None, by: str | None = None) -> bool:
        """Let nothing out of a queue, until ``until`` if it is given; one that is paused already keeps its ``since``.

        Returns whether that changes anything.

        Raises:
            Refused: there are gates enough.
        """
        self._check_room(name)
        gate = self.get(name)
        former = None if gate is None else gate.pause
        since = now if former is None else former.since
        if former is not None and (former.reason, former.until) == (reason, until):
            # Who says the same once more changes nothing.
            by = former.by
        pause = Pause(since, reason, until, by)
        self._shut(name, pause)
        return self._facts.set(PAUSED, name, msgspec.json.encode(pause))

    def resume(self, name: str) -> bool:
        """End the pause of a queue; return whether there was one."""
        gate = self.get(name)
        if gate is None or gate.pause is None:
            return False
        self._facts.delete(PAUSED, name)
        gate.pause = None
        self._drop_if_idle(name)
        self._look()
        return True

    def limit(self, name: str, concurrency: int) -> bool:
        """Let at most ``concurrency`` jobs of a queue be active at once; those that are stay so.

        Returns whether that changes anything.

        Raises:
            Refused: there are gates enough.
        """
        self._check_room(name)
        self._of(name).concurrency = concurrency
        return self._facts.set(CONCURRENCY, name, b"%d" % concurrency)

    def unlimit(self, name: str) -> bool:
        """Let any number of jobs of a queue be active; return whether there was a limit."""
        gate = self.get(name)
        if gate is None or gate.concurrency is None:
            return False
        self._facts.delete(CONCURRENCY, name)
        gate.concurrency = None
        self._drop_if_idle(name)
        return True

    def set_rate(self, name: str, now: int, *, limit: int, duration: int, until: int | None) -> bool:
        """Let at most ``limit`` jobs of a queue be delivered in any ``duration`` ms; what is known of the last ones counts.

        Returns whether that changes anything.

        Raises:
            Refused: there are gates enough.
        """
        self._check_room(name)
        gate = self._of(name)
        gate.rate = Rate(limit, duration, until, [] if gate.rate is None else gate.rate.times)
        self._expect(name, until)
        self._fill(name, now)
        return self._facts.set(RATE, name, rates.encode(gate.rate))

    def clear_rate(self, name: str) -> bool:
        """Let jobs of a queue be delivered at any rate; return whether there was a limit."""
        gate = self.get(name)
        if gate is None or gate.rate is None:
            return False
        self._facts.delete(RATE, name)
        gate.rate = gate.opens_at = None
        self._drop_if_idle(name)
        self._look()
        return True

    def note_delivery(self, name: str, now: int) -> bool:
        """Count a delivery at the gate of a queue; return whether it must be committed before its holder hears of it."""
        gate = self[name]
        if gate.rate is None:
            return gate.concurrency is not None
        gate.rate.note(now)
        self._facts.set(RATE, name, rates.encode(gate.rate))
        self._fill(name, now)
        return True

    def drop(self, name: str) -> bool:
        """Let everything out of a queue, and forget what was said of it; return whether anything was."""
        return any([self.resume(name), self.unlimit(name), self.clear_rate(name)])

    def is_limited(self, name: str) -> bool:
        """Return whether jobs of a queue make room for others when they are not active any more."""
        gate = self.get(name)
        return gate is not None and gate.concurrency is not None

    def pop_due(self, now: int) -> str | None:
        """Do the first thing that is to happen at or before ``now``; return its queue, or None."""
        if self.due is None or self.due > now:
            return None
        time, name = self._ends[0]
        gate = self[name]
        if gate.pause is not None and gate.pause.until == time:
            self.resume(name)
        elif gate.rate is not None and gate.rate.until == time:
            self.clear_rate(name)
        else:
            gate.opens_at = None
            self._look()
        return name

    def _check_room(self, name: str) -> None:
        if name not in self and len(self) >= GATES_MAX:
            raise errors.TOO_MANY_GATES.refuse(GATES_MAX)

    def _of(self, name: str) -> Gate:
        gate = self.get(name)
        if gate is None:
            gate = self[name] = Gate()
        return gate

    def _drop_if_idle(self, name: str) -> None:
        gate = self[name]
        if gate.pause is None and gate.concurrency is None and gate.rate is None:
            del self[name]

    def _shut(self, name: str, pause: Pause) -> None:
        self._of(name).pause = pause
        self._expect(name, pause.until)

    def _fill(self, name: str, now: int) -> None:
        """Shut the gate of a queue if its rate leaves no room now, until it does."""
        gate = self[name]
        assert gate.rate is not None
        gate.opens_at = gate.rate.opens_at(now)
        self._expect(name, gate.opens_at)

    def _expect(self, name: str, time: int | None) -> None:
        if time is not None:
            heappush(self._ends, (time, name))
            if len(self._ends) > _SWEEP_MIN + 4 * len(self):
                self._ends = list({end for end in self._ends if self._is_so(*end)})
                heapify(self._ends)
        self._look()

    def _look(self) -> None:
        """See what is the next to happen."""
        ends = self._ends
        while ends and not self._is_so(*ends[0]):
            heappop(ends)
        self.due = ends[0][0] if ends else None

    def _is_so(self, time: int, name: str) -> bool:
        gate = self.get(name)
        return gate is not None and time in gate.times()
