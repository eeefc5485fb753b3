"""The jobs that a filter describes, in pages: one selection for whoever looks and whoever acts.

A page goes through the states one after the other, in each through the queues by name, and in a queue through its jobs in the order
of its lists. It goes on behind the place of the last job looked at, so nothing that stays where it is is left out or told twice.
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from bunqueue_trio.config import REPLAY_BYTES
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.fingerprint import fingerprint, work_of
from bunqueue_trio.engine.job import UNFINISHED, Job, Lease, State, weight
from bunqueue_trio.engine.listing import place_of, standing
from bunqueue_trio.engine.workers import Workers
from bunqueue_trio.protocol import commands as c

LOOKS = 4000
"""What a page may cost: a look at an unfinished job is 1, about 1 µs."""
# To read an ended one.
_RECORD = 12
# A page of them, where each is a question to a store that is a network away: forty make a page of ours.
_FAR = 100
# Of them read at once: a page of 100, and whether there is one more.
_RECORDS = 101
# To show one.
_FOUND = 4
# Of the µs that it takes at most to tell what the error of an unfinished one is, which nearly none does.
_MATCHED = 3
# Of a payload or an error that are looked through for 1: where both are made to be slow, it takes 4 ns for each character, and 2 for each byte.
_BYTES = 1000
# What a page has cost at most where it looks through a payload larger than this many bytes: one of 10 MiB takes up to 19 ms by itself.
_BEGUN, _LARGE_BYTES = 100, 1_000_000

STATES = (
    State.ACTIVE, State.WAITING, State.DELAYED, State.WAITING_CHILDREN, State.FAILED, State.COMPLETED,
)  # fmt: skip
"""In the order in which they are gone through."""
_BY_NAME = {state.value: state for state in STATES}
_CURSOR = re.compile(r"([a-z-]+)\|([A-Za-z0-9_.:-]{1,256})\|(?:(-?[0-9]{1,18})(?:,(-?[0-9]{1,18}))?)?")

Place = tuple[int, ...]


class Selection(NamedTuple):
    """Some jobs, how many were looked at for them, and behind which cursor to go on; None: these are all."""

    jobs: list[Job]
    scanned: int
    after: str | None
    is_full: bool
    """Whether it ended because it has as many as were wanted, or all."""
    number: int = 0
    """How many they are, where only that was asked for."""


def states_of(wanted: list[str] | str | None, usual: tuple[State, ...] = STATES) -> list[State]:
    """Return the states of a filter in the order in which they are gone through; ``usual`` where it says none.

    Raises:
        Refused: there is no such state.
    """
    if wanted is None:
        return [state for state in STATES if state in usual]
    names = [wanted] if isinstance(wanted, str) else wanted
    if not set(names) <= set(_BY_NAME):
        raise c.UNKNOWN_STATE.refuse()
    return [state for state in STATES if state.value in names]


def select(
    engine: Engine, wanted: "c.Filter | c.FindJobs", states: list[State], *, after: str | None, limit: int, now: int,
    as_of: int | None = None, oldest: bool = False,
) -> Selection:  # fmt: skip
    """Return up to ``limit`` of the jobs in ``states`` that are as ``wanted``, behind the cursor ``after``; none that has come since ``as_of``.

    ``oldest``: of dead letters of a queue those first that died first, and none that dies while their pages are gone through.

    Raises:
        Refused: ``after`` is no cursor of these states, or no queue can have such a name.
    """
    search = _Search(engine, wanted, states, limit, now)
    if oldest:
        assert states == [State.FAILED]
        as_of = search.begin_with_oldest(after, now if as_of is None else as_of)
    if as_of is not None:
        since = as_of
        search.tests.insert(0, ((lambda job: not has_come(job, since, now)), None))
    return search.run(after)


def has_come(job: Job, as_of: int, now: int) -> bool:
    """Return whether a job has come, or ended, since ``as_of``: what is of the future has done so before the clock was set back."""
    return as_of < _begun(job) <= now


def tally(engine: Engine, wanted: "c.FindJobs", states: list[State], after: str | None, now: int) -> Selection:
    """Count as many of them as one step looks at. Where nothing but queues and states is said, the counts are there.

    Raises:
        Refused: as :func:`select`.
    """
    return _Search(engine, wanted, states, None, now).run(after)


class _Search:
    """One page in the making."""

    def __init__(
        self, engine: Engine, wanted: "c.Filter | c.FindJobs", states: list[State], limit: int | None, now: int
    ) -> None:
        self._engine = engine
        self._wanted = wanted
        self._states = states
        self._limit = limit
        """None: they are only counted."""
        self.tests = list(_tests(wanted, now, engine.workers))
        self._queues: list[str] | None = None
        if wanted.queue is not None:
            self._queues = sorted({wanted.queue} if isinstance(wanted.queue, str) else set(wanted.queue))
            for name in self._queues:
                engine.queues.check(name)
        self._jobs: list[Job] = []
        self._count = 0
        self._scanned = 0
        self._cost = 0
        self._bytes = 0
        self._as_of: int | None = None
        """Those that died first come first, none of them after this; None: the newest come first."""

    def begin_with_oldest(self, after: str | None, as_of: int) -> int:
        """Go through the oldest first, and return up to when: where this goes on, as its cursor says."""
        self._as_of = as_of
        if after is not None:
            place = self._parse(after)[2]
            assert place is not None
            self._as_of = place[1]
        return self._as_of

    def run(self, after: str | None) -> Selection:
        """Go through what is behind ``after``."""
        states, queue, place = self._states, None, None
        if after is not None:
            state, queue, place = self._parse(after)
            states = states[states.index(state) :]
        for state in states:
            for name in self._names(state, queue):
                # A cursor whose queue is gone goes on with the one behind it.
                begin = place if name == queue else None
                if self._cost >= LOOKS:
                    return self._ended(state, name, begin, is_full=False)
                self._cost += 1
                if self._limit is None and not self.tests:
                    self._count += self._kept(state, name)
                    continue
                search = self._unfinished if state in UNFINISHED else self._finished
                stopped = search(state, name, begin)
                if stopped is not None:
                    return stopped
            queue = place = None
        return Selection(self._jobs, self._scanned, None, is_full=True, number=self._count)

    def _kept(self, state: State, name: str) -> int:
        """Return how many jobs of a queue are in a state, by the counts that are kept."""
        if state is State.FAILED:
            return self._engine.dead_left(name)
        if state is State.COMPLETED:
            return self._engine.archive.kept_of(name)[0]
        queue = self._engine.queues.get(name)
        return 0 if queue is None else queue.count(state)

    def _parse(self, after: str) -> tuple[State, str, Place | None]:
        found = _CURSOR.fullmatch(after)
        state = _BY_NAME.get(found[1]) if found else None
        if found is None or state not in self._states:
            raise c.NOT_A_PLACE.refuse()
        place = tuple(int(number) for number in found.groups()[2:] if number is not None)
        if self._as_of is not None and not place:
            raise c.NOT_A_PLACE.refuse()
        if place and len(place) != (1 if state not in UNFINISHED and self._as_of is None else 2):
            raise c.NOT_A_PLACE.refuse()
        return state, found[2], place or None

    def _names(self, state: State, first: str | None) -> Iterator[str]:
        """Yield the queues to go through, from ``first`` on."""
        if self._queues is not None:
            yield from (name for name in self._queues if first is None or name >= first)
            return
        if first is not None:
            yield first
        if state in UNFINISHED:
            yield from self._engine.queues.names.after(first or "")
            return
        last = first or ""
        while names := self._engine.archive.queues_after(last, _RECORDS):
            yield from names
            last = names[-1]

    def _unfinished(self, state: State, name: str, after: Place | None) -> Selection | None:
        queue = self._engine.queues.get(name)
        if queue is None or not queue.count(state):
            return None
        place = None if after is None else (after[0], after[1])
        for job in standing(queue, state, place, LOOKS):
            if self._cost >= LOOKS or self._bytes >= REPLAY_BYTES:
                return self._ended(state, name, place, is_full=False)
            if self._is_alone(job):
                return self._ended(state, name, place, is_full=False)
            if self._is_wanted(job) and not self._take(job):
                return self._ended(state, name, place, is_full=True)
            place = place_of(job)
        return None

    def _finished(self, state: State, name: str, after: Place | None) -> Selection | None:
        wanted = self._wanted.fingerprint
        if wanted is not None and state is not State.FAILED:
            return None
        place, more = after, True
        while more:
            if self._cost >= LOOKS or self._bytes >= REPLAY_BYTES:
                return self._ended(state, name, place, is_full=False)
            begin = place[0] if place else None
            records = self._engine.ended(name, state, begin, _RECORDS, wanted, oldest=self._as_of is not None)
            self._cost += _RECORD if self._engine.archive.at_once else _FAR
            for job, at in zip(records.jobs, records.places, strict=True):
                if self._is_alone(job):
                    return self._ended(state, name, place, is_full=False)
                self._cost += _RECORD
                if self._is_wanted(job) and not self._take(job):
                    return self._ended(state, name, place, is_full=True)
                place = (at,)
            more = records.before is not None
            if records.before is not None:
                place = (records.before,)
        return None

    def _is_alone(self, job: Job) -> bool:
        """Return whether a job is for the next page, since to look through it takes all of a step."""
        return self._wanted.text is not None and self._cost > _BEGUN and len(job.data) > _LARGE_BYTES

    def _is_wanted(self, job: Job) -> bool:
        self._scanned += 1
        self._cost += 1
        for test, cost in self.tests:
            if cost is not None:
                self._cost += cost(job)
            if not test(job):
                return False
        return True

    def _take(self, job: Job) -> bool:
        """Take ``job`` if there is room for one more."""
        if self._limit is None:
            self._count += 1
            return True
        if len(self._jobs) >= self._limit:
            # It is the first of the next page.
            self._scanned -= 1
            return False
        self._jobs.append(job)
        self._cost += _FOUND
        self._bytes += weight(job)
        return True

    def _ended(self, state: State, name: str, place: Place | None, *, is_full: bool) -> Selection:
        if self._as_of is not None:
            place = (place[0] if place else 0, self._as_of)
        cursor = f"{state.value}|{name}|{','.join(map(str, place or ()))}"
        return Selection(self._jobs, self._scanned, cursor, is_full, self._count)


_Test = tuple[Callable[[Job], bool], Callable[[Job], int] | None]
"""Whether a job is wanted, and what it costs to find that out beside the look itself; None: nothing."""


def _has(workers: Workers, lease: Lease, owner: str) -> bool:
    """Return whether that connection holds a job, or the worker of that id or name has it."""
    worker = workers.of(lease)
    return owner in (lease.owner, lease.worker) or (worker is not None and worker.name == owner)


def _tests(wanted: "c.Filter | c.FindJobs", now: int, workers: Workers) -> Iterator[_Test]:
    """Yield the conditions that a job is tested by, the cheapest first."""
    tag, group_id, prefix, owner = wanted.tag, wanted.group_id, wanted.id_prefix, wanted.owner
    older, newer, attempts = wanted.older, wanted.newer, wanted.attempts
    if tag is not None:
        yield (lambda job: tag in job.options.tags), None
    if group_id is not None:
        yield (lambda job: job.options.group_id == group_id), None
    if prefix is not None:
        yield (lambda job: job.id.startswith(prefix)), None
    if owner is not None:
        yield (lambda job: job.lease is not None and _has(workers, job.lease, owner)), None
    if older is not None:
        yield (lambda job: now - _begun(job) >= older), None
    if newer is not None:
        yield (lambda job: now - _begun(job) <= newer), None
    if attempts is not None:
        yield (lambda job: job.attempts >= attempts), None
    yield from _told(wanted)


def _told(wanted: "c.Filter | c.FindJobs") -> Iterator[_Test]:
    error, group = wanted.error, wanted.fingerprint
    if error is not None:
        yield (lambda job: error in (_error(job) or "")), (lambda job: 1 + len(_error(job) or "") // _BYTES)
    if group is not None:
        yield (
            (lambda job: job.state is State.FAILED or _is_of(job, group)),
            (lambda job: 0 if job.state is State.FAILED or not (text := _error(job)) else work_of(text) // _MATCHED),
        )
    if wanted.text is not None:
        # Not `in`: of texts that nearly repeat themselves that makes twice as much work.
        look = re.compile(re.escape(wanted.text.encode())).search
        yield (lambda job: look(job.data) is not None), (lambda job: 1 + len(job.data) // _BYTES)


def _begun(job: Job) -> int:
    """Return when its age began: at its end, or else at its push."""
    ended = None if job.note is None else job.note.finished_at
    return job.created_at if ended is None else ended


def _error(job: Job) -> str | None:
    return None if job.note is None else job.note.error


def _is_of(job: Job, group: str) -> bool:
    error = _error(job)
    return error is not None and fingerprint(error).key == group
