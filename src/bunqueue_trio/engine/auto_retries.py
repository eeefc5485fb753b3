"""Which queues retry their dead letters by themselves, how far each has come, and when one is to be looked at next.

Nothing of a dead letter is kept here: when it died, and how often it was retried so, stands in its record. A queue goes through its
records from the oldest on. A retry takes the record, and what stays dead is passed: in the commit of the same step, so no crash
retries one twice, or forgets one. Only the end of the last look is in memory, and a start looks at each queue anew.
"""

from heapq import heapify, heappop, heappush

import msgspec
from msgspec import Struct

from bunqueue_trio.engine.configs import ALL, Configs
from bunqueue_trio.engine.facts import Facts
from bunqueue_trio.engine.job import Archive, Job, State

AUTO_RETRY = "auto-retry"
"""The kind of facts that hold how far they have come."""
# Below this a sweep saves no memory worth its time.
_SWEEP_MIN = 1024


class Passing(Struct, omit_defaults=True):
    """How far a queue has come."""

    since: int
    """Since when it does so; jobs that died before are left alone."""
    after: int = 0
    """The place of the last record that was dealt with."""
    upto: int = 0
    """When that job died."""


_DECODE = msgspec.json.Decoder(Passing).decode


class AutoRetries(dict[str, Passing]):
    """All queues that do, by name."""

    def __init__(self, facts: Facts, configs: Configs) -> None:
        super().__init__()
        self._facts = facts
        self._configs = configs
        self._looks: list[tuple[int, str]] = []
        """A heap of when queues are to be looked at; what is not so any more is skipped when it surfaces."""
        self._look_at: dict[str, int] = {}
        self.rests_until: int = 0
        """Nothing is looked at before."""

    def load(self, archive: Archive) -> None:
        """Take up what the facts, just loaded, tell of."""
        for name, value in list(self._facts.of(AUTO_RETRY).items()):
            one = self[name] = _DECODE(value)
            newest = _newest(archive, name)
            # That record is gone, and a start gives its place to the next one that comes.
            if one.after > newest:
                one.after = newest
                self.note(name)
            self.look_at(name, 0)

    def begun(self, archive: Archive, name: str, now: int) -> Passing:
        """Return how far a queue has come that is to do so, from ``now`` on if it does not yet."""
        return self.get(name) or Passing(now, _newest(archive, name))

    def turn(self, name: str, one: Passing | None) -> None:
        """Let a queue do so, by whatever its rule is now, or not any more."""
        if one is None:
            self.pop(name, None)
            self._look_at.pop(name, None)
            self._facts.delete(AUTO_RETRY, name)
        else:
            self[name] = one
            self.note(name)
            self.look_at(name, 0)

    def note(self, name: str) -> None:
        """Note how far a queue has come."""
        self._facts.set(AUTO_RETRY, name, msgspec.json.encode(self[name]))

    def note_dead(self, job: Job) -> None:
        """Expect the time of a dead letter whose record has just been written."""
        if job.queue in self:
            self.look_at(job.queue, self.due_of(job))

    def due_of(self, job: Job) -> int:
        """Return when a dead letter is to be retried by the rule of its queue."""
        return (job.noted().finished_at or 0) + self._configs.dead.get(job.queue, ALL).interval

    def look_at(self, name: str, time: int) -> None:
        """Look at a queue at ``time``, if not before."""
        if time >= self._look_at.get(name, time + 1):
            return
        self._look_at[name] = time
        heappush(self._looks, (time, name))
        if len(self._looks) > _SWEEP_MIN + 4 * len(self):
            self._looks = [(at, each) for each, at in self._look_at.items()]
            heapify(self._looks)

    @property
    def due(self) -> int | None:
        """When the next queue is to be looked at, or None."""
        looks = self._looks
        while looks and self._look_at.get(looks[0][1]) != looks[0][0]:
            heappop(looks)
        return max(looks[0][0], self.rests_until) if looks else None

    def pop_due(self, now: int) -> str | None:
        """Return a queue that is to be looked at by ``now``, or None."""
        due = self.due
        if due is None or due > now:
            return None
        _, name = heappop(self._looks)
        del self._look_at[name]
        return name


def _newest(archive: Archive, name: str) -> int:
    """Return the place of the newest dead letter of a queue, 0 without one."""
    places = archive.records(name, State.FAILED, None, 1).places
    return places[0] if places else 0
