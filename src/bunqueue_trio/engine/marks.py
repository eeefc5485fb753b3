"""What people say of errors: that one is fixed, until it comes back, or that nobody wants to hear of it."""

import msgspec
from msgspec import Struct

from bunqueue_trio.config import MARKS_MAX
from bunqueue_trio.engine.facts import Facts
from bunqueue_trio.engine.fingerprint import fingerprint
from bunqueue_trio.engine.job import Job

MARK = "error-mark"
"""The kind of facts that hold them, by the fingerprint of the error."""
FIXED, MUTED = "fixed", "muted"


class Mark(Struct, frozen=True, omit_defaults=True):
    """The mark of an error and when it was set; of a fixed error whether it is back: since when, until when, where, and how often."""

    mark: str
    at: int
    back_at: int | None = None
    queue: str = ""
    shape: str = ""
    times: int = 0
    last_at: int | None = None


_DECODE = msgspec.json.Decoder(Mark).decode


class Marks(dict[str, Mark]):
    """All marks by fingerprint, those that were made first before the others."""

    def __init__(self, facts: Facts) -> None:
        super().__init__()
        self._facts = facts
        self.fixed: int = 0
        """How many errors are said to be fixed: deaths are looked at only while there are some."""
        self.muted: frozenset[str] = frozenset()

    def load(self) -> None:
        """Take up what the facts, just loaded, tell of."""
        found = {key: _DECODE(value) for key, value in self._facts.of(MARK).items()}
        self.update(sorted(found.items(), key=lambda item: (item[1].at, item[0])))
        self._count()

    def set(self, key: str, mark: str | None, now: int) -> bool:
        """Say something of an error, of None nothing any more; return whether that changes anything. The oldest make room."""
        before = self.get(key)
        if mark is None:
            if before is None:
                return False
            self._forget(key)
        elif before is not None and before.mark == mark and before.back_at is None:
            return False
        else:
            self.pop(key, None)
            self._keep(key, Mark(mark, now))
            while len(self) > MARKS_MAX:
                self._forget(next(iter(self)))
        self._count()
        return True

    def note_death(self, job: Job, error: str, now: int) -> bool:
        """See whether the error that ``job`` died of was said to be fixed; return whether nobody wants to hear of it."""
        key, shape = fingerprint(error)
        mark = self.get(key)
        if mark is not None and mark.mark == FIXED:
            since = now if mark.back_at is None else mark.back_at
            self._keep(key, Mark(FIXED, mark.at, since, job.queue, shape, mark.times + 1, now))
        return key in self.muted

    def back(self) -> list[tuple[str, Mark]]:
        """Return the errors that were said to be fixed and have come back, with their fingerprints."""
        return [(key, mark) for key, mark in self.items() if mark.back_at is not None]

    def _keep(self, key: str, mark: Mark) -> None:
        self[key] = mark
        self._facts.set(MARK, key, msgspec.json.encode(mark))

    def _forget(self, key: str) -> None:
        del self[key]
        self._facts.delete(MARK, key)

    def _count(self) -> None:
        self.fixed = sum(mark.mark == FIXED for mark in self.values())
        self.muted = frozenset(key for key, mark in self.items() if mark.mark == MUTED)
