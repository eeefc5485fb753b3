"""Reruns, and how far each has come: dead letters that are retried a few first, and the others as long as not too many of those die again.

What a rerun is to do, how far it has come and how its jobs fare stands in one fact, written with the jobs of each step. A job that
was retried so carries the id of its rerun until it ends: so no crash makes a rerun forget one, or retry anything twice.
"""

import msgspec
from msgspec import Struct

from bunqueue_trio.config import RERUN_OPEN_S, RERUNS_KEPT, SECOND_MS
from bunqueue_trio.engine.facts import Facts
from bunqueue_trio.engine.job import Job, State
from bunqueue_trio.protocol.commands.find import Filter

RERUN = "rerun"
"""The kind of facts that hold them."""
FIRST, REST, DONE, STOPPED = "first", "rest", "done", "stopped"
_UNDER_WAY = (FIRST, REST)


class Rerun(Struct, kw_only=True, omit_defaults=True):
    """One rerun; times in epoch ms."""

    id: str
    filter: Filter
    count: int
    rate: int
    stop_at: int | float
    started_at: int
    state: str = FIRST
    why: str | None = None
    ended_at: int | None = None
    after: str | None = None
    """Behind which cursor it goes on."""
    exhausted: bool = False
    """There is nothing more behind that."""
    retried: int = 0
    ended: int = 0
    died: int = 0
    refused: dict[str, int] = {}
    open_in: dict[str, int] = {}
    """How many of the jobs that it has retried have not ended, by queue."""
    paused_at: str | None = None
    """The queue that its next dead letters are of, if that was paused when it came to them."""
    moved_at: int = 0
    """When it has retried something last, or heard of an end."""

    @property
    def open(self) -> int:
        """How many of the jobs that it has retried have not ended."""
        return self.retried - self.ended

    @property
    def is_under_way(self) -> bool:
        """Whether it goes on."""
        return self.state in _UNDER_WAY

    def allowance(self) -> int:
        """Return how many it may retry in this second."""
        if not self.is_under_way or self.exhausted:
            return 0
        if self.state == FIRST:
            return min(self.rate, self.count - self.retried)
        # What is open says nothing yet: were all of them retried before any ended, nothing could be stopped.
        return min(self.rate, max(self.count, RERUN_OPEN_S * self.rate) - self.open)

    def note_retried(self, job: Job, now: int) -> None:
        """Count a job that it has retried; the job knows it until its end."""
        job.noted().rerun = self.id
        self.retried += 1
        self.moved_at = now
        self.open_in[job.queue] = self.open_in.get(job.queue, 0) + 1

    def note_moved(self, job: Job, queue: str) -> None:
        """Go along with a job that it has retried, and that comes into another queue."""
        self._close(job.queue)
        self.open_in[queue] = self.open_in.get(queue, 0) + 1

    def note_ended(self, job: Job, now: int) -> None:
        """Count the end of a job that it has retried."""
        self.ended += 1
        self.moved_at = now
        self._close(job.queue)

    def _close(self, queue: str) -> None:
        left = self.open_in.pop(queue, 0) - 1
        if left > 0:
            self.open_in[queue] = left

    def turn(self, now: int) -> None:
        """Go on to the next state, if what has become of its jobs says so."""
        if not self.is_under_way:
            return
        whole = self.retried if self.exhausted else max(self.count, self.retried)
        judged = whole if self.state == FIRST else max(self.ended, min(self.count, whole))
        if self.died * 100 > self.stop_at * judged:
            self.end(STOPPED, f"by then {self.died} of {judged} had died again, more than {self.stop_at:g} %", now)
        elif self.exhausted and not self.open:
            self.end(DONE, None, now)
        elif self.state == FIRST and self.retried >= self.count and not self.open:
            self.state = REST

    def end(self, state: str, why: str | None, now: int) -> None:
        """Let it retry no more."""
        self.state, self.why, self.ended_at = state, why, now


_DECODE = msgspec.json.Decoder(Rerun).decode


class Reruns(dict[str, Rerun]):
    """All that are under way, and the last that have ended, oldest first."""

    def __init__(self, facts: Facts) -> None:
        super().__init__()
        self._facts = facts
        self.stopped: list[Rerun] = []
        """Those that have stopped by themselves since the log told of them."""
        self.ran_at: int = 0
        """When the runtime went on with them last."""
        self.refused: dict[str, str] = {}
        """Why the disk let some of them retry nothing then, by their ids."""
        self.due: int | None = None
        """When the next retry is due; None: no rerun has anything to retry now."""

    def load(self) -> None:
        """Take up what the facts, just loaded, tell of."""
        found = [_DECODE(value) for value in self._facts.of(RERUN).values()]
        self.update({one.id: one for one in sorted(found, key=lambda one: (one.started_at, one.id))})
        self.look()

    def add(self, one: Rerun) -> None:
        """Begin a rerun; the oldest ended ones make room."""
        self[one.id] = one
        self.note(one)
        ended = [each.id for each in self.values() if not each.is_under_way]
        for rerun_id in ended[: max(0, len(ended) - RERUNS_KEPT)]:
            del self[rerun_id]
            self._facts.delete(RERUN, rerun_id)

    def note(self, one: Rerun) -> None:
        """Note how far one has come."""
        self._facts.set(RERUN, one.id, msgspec.json.encode(one))
        self.look()

    def look(self) -> None:
        """See when there is something to do."""
        is_idle = not self.stopped and all(one.allowance() <= 0 for one in self.values())
        self.due = None if is_idle else self.ran_at + SECOND_MS

    def under_way(self) -> list[Rerun]:
        """Return those that go on."""
        return [one for one in self.values() if one.is_under_way]

    def note_moved(self, job: Job, queue: str) -> None:
        """Go along with a job that comes into another queue, if one of them has retried it."""
        one = self.get(job.noted().rerun or "")
        if one is not None:
            one.note_moved(job, queue)
            self.note(one)

    def note_end(self, job: Job, state: State, now: int) -> None:
        """Count the end of a job that one of them has retried; who was cancelled has not died of anything."""
        note = job.noted()
        one = self.get(note.rerun or "")
        if one is None:
            # It ended long ago.
            return
        one.note_ended(job, now)
        one.died += state is State.FAILED and note.cancelled is None
        was_under_way = one.is_under_way
        one.turn(now)
        if was_under_way and one.state == STOPPED:
            self.stopped.append(one)
        self.note(one)
