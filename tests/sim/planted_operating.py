"""Bugs in what is kept beside jobs: facts, acts, attempts and logs. Each is planted by a function, as those in `planted_bugs.py`."""

from typing import Any
from weakref import WeakKeyDictionary

import pytest

from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.facts import Facts
from bunqueue_trio.engine.gates import CONCURRENCY, PAUSED
from bunqueue_trio.engine.marks import Marks
from bunqueue_trio.engine.trails import ACTIONS, ATTEMPTS, LOG, Line, Trails
from bunqueue_trio.engine.workers import QUIET
from bunqueue_trio.storage.memory import MemoryStore
from tests.sim.sim_disk import Platter


def writes_facts_after_their_commit(patch: pytest.MonkeyPatch) -> None:
    """What somebody was answered is on the disk with the next batch only."""
    take = Engine.take
    held: WeakKeyDictionary[Facts, list[Any]] = WeakKeyDictionary()

    def late(self: Engine) -> Any:
        changes = take(self)
        before = held.get(self.facts, [])
        held[self.facts], changes.facts = changes.facts, before
        return changes

    patch.setattr(Engine, "take", late)


def _loses_facts(patch: pytest.MonkeyPatch, kind: str) -> None:
    load = Platter.load_facts
    patch.setattr(Platter, "load_facts", lambda self: [fact for fact in load(self) if fact[0] != kind], raising=False)


def forgets_limits_at_a_start(patch: pytest.MonkeyPatch) -> None:
    _loses_facts(patch, CONCURRENCY)


def forgets_pauses_at_a_start(patch: pytest.MonkeyPatch) -> None:
    _loses_facts(patch, PAUSED)


def forgets_quiet_workers_at_a_start(patch: pytest.MonkeyPatch) -> None:
    _loses_facts(patch, QUIET)


def forgets_marks_at_a_start(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Marks, "load", lambda self: None)


def _drops_lines(patch: pytest.MonkeyPatch, kind: str) -> None:
    take = Trails.take

    def fewer(self: Trails) -> Any:
        changes = take(self)
        first = next((line for line in changes if isinstance(line, Line)), None)
        return [line for line in changes if line is first or line.kind != kind or not isinstance(line, Line)]

    patch.setattr(Trails, "take", fewer)


def writes_one_act_of_a_batch(patch: pytest.MonkeyPatch) -> None:
    """The line of an act is lost when another was written just before it."""
    _drops_lines(patch, ACTIONS)


def writes_one_line_of_a_batch(patch: pytest.MonkeyPatch) -> None:
    _drops_lines(patch, LOG)


def loses_attempts_at_a_start(patch: pytest.MonkeyPatch) -> None:
    load = MemoryStore.load

    def forgetful(self: MemoryStore) -> Any:
        for kinds in self._trails.values():
            kinds.pop(ATTEMPTS, None)
        return load(self)

    patch.setattr(MemoryStore, "load", forgetful)


def keeps_the_trails_of_a_job_that_is_pushed_again(patch: pytest.MonkeyPatch) -> None:
    def kept(self: Platter, job_id: str) -> None:
        trails = self._trails.get(job_id)
        drop(self, job_id)
        if trails is not None:
            self._trails[job_id] = trails

    drop = MemoryStore._drop
    patch.setattr(MemoryStore, "_drop", kept)
