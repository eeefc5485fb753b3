"""The archive of a store that is a network away: what a command needs from it is awaited before its step.

Theory of operation. A step of the engine cannot wait. So a command runs with the answers that are known; the first
question without one ends it with :class:`Unread`, having changed nothing, as when a disk cannot be read. The answer is
awaited, and the command runs anew with all of them, until nothing is missing. Few commands ask anything, most of them
once.

An answer tells of the store in some moment between question and answer. What the engine has in memory counts before it.
What has ended, was deleted or replaced, and has left memory meanwhile would be missed: so each look notes what the commits
since its question have touched, and one that tells of any of that is taken again.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import trio

from bunqueue_trio import errors
from bunqueue_trio.config import LOOKS_MAX, REPEATS_MAX
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.job import UNFINISHED, Job, Records, State, Trace
from bunqueue_trio.engine.ranking import DeadGroups
from bunqueue_trio.engine.trails import TrailPage
from bunqueue_trio.errors import StoreError
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.caller import SERVER, By
from bunqueue_trio.runtime.alarm import Alarm
from bunqueue_trio.runtime.begun import Begun
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.core import Core
from bunqueue_trio.runtime.journal import Journal
from bunqueue_trio.storage.awaited import AwaitedStore, Question, Unread
from bunqueue_trio.storage.store import Batch

T = TypeVar("T")


class _Look:
    """A question under way, or its answer while a command may need it."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.answer: Any = None
        self.touched: set[str] = set()
        """What the commits since the question have ended, deleted or replaced."""

    @property
    def is_fresh(self) -> bool:
        """Whether its answer still tells what is so."""
        answer, question = self.answer, self.question
        named = [job.id for job in answer.jobs] if isinstance(answer, Records) else question.ids
        return self.touched.isdisjoint(named)


class Lookups:
    """The archive as the engine sees it, who never waits for it: a question whose answer is not known ends what it is asked in."""

    at_once = False

    def __init__(self, store: AwaitedStore) -> None:
        self._store = store
        self._known: Mapping[Question, Any] = {}
        """The answers that what runs now may use; none while nothing runs that could be run anew."""
        self._looks: dict[_Look, None] = {}

    def know(self, looks: Sequence[_Look]) -> None:
        """Let what runs now know the answers in ``looks``, and nothing else of the archive, until it knows ``()``."""
        self._known = {look.question: look.answer for look in looks}

    async def ask(self, question: Question) -> _Look:
        """Return the answer to ``question``; :meth:`close` is to follow.

        Raises:
            StoreError: there is none.
        """
        look = _Look(question)
        self._looks[look] = None
        try:
            look.answer = await self._store.look_up(question)
        except BaseException:
            self.close([look])
            raise
        return look

    def close(self, looks: Sequence[_Look]) -> None:
        """Note that nobody needs these answers any more."""
        for look in looks:
            self._looks.pop(look, None)

    def committed(self, batch: Batch, _: float) -> None:
        """Tell the looks what ``batch`` has ended, deleted or replaced (one of ``Journal.on_commit``)."""
        if self._looks:
            touched = {job.id for job in batch.jobs if job.state not in UNFINISHED}
            touched.update(batch.removed_ids, (job_id for (job_id,) in batch.reused_ids))
            for look in self._looks:
                look.touched |= touched

    def leads(self) -> bool:
        """Return whether nobody else can have changed anything."""
        return self._store.leads()

    # --- the archive ----------------------------------------------------------------------------

    def find(self, job_id: str, *, data: bool = True, result: bool = True) -> Job | None:
        """Return a finished job; see :class:`Archive`."""
        job: Job | None = self._answer(Question("find", (job_id,), ids=(job_id,)))
        return job

    def outcomes(self, job_ids: Sequence[str]) -> dict[str, State]:
        """Return how some jobs ended; see :class:`Archive`."""
        if not job_ids:
            return {}
        ids = tuple(sorted(job_ids))
        states: dict[str, State] = self._answer(Question("outcomes", (ids,), ids=ids))
        return states

    def records(
        self, queue: str, state: State, before: int | None, limit: int, fingerprint: str | None = None,
        *, oldest: bool = False,
    ) -> Records:  # fmt: skip
        """Return some of the finished jobs of a queue; see :class:`Archive`."""
        asked = (queue, state, before, limit, fingerprint)
        records: Records = self._answer(Question("records", asked, (("oldest", oldest),)))
        return records

    def trail(self, kind: str, key: str, place: int | None, limit: int, *, newest: bool) -> TrailPage:
        """Return lines of a trail; see :class:`Archive`."""
        page: TrailPage = self._answer(Question("trail", (kind, key, place, limit), (("newest", newest),)))
        return page

    def first_seen(self, queues: tuple[str, ...], fingerprint: str) -> int | None:
        """Return when the oldest dead letter of an error has died; see :class:`Archive`."""
        moment: int | None = self._answer(Question("first_seen", (queues, fingerprint)))
        return moment

    def traces(self, first: str, end: str, limit: int) -> list[Trace]:
        """Return what is kept of some jobs; see :class:`Archive`."""
        traces: list[Trace] = self._answer(Question("traces", (first, end, limit)))
        return traces

    @property
    def last_event_id(self) -> int:
        """Return the id of the newest event, which every store knows."""
        return self._store.last_event_id

    def first_event_id(self) -> int:
        """Return the id of the oldest kept event; see :class:`Archive`."""
        return int(self._answer(Question("first_event_id", ())))

    def events_after(self, event_id: int, limit: int) -> Sequence[tuple[int, bytes]]:
        """Return kept events; see :class:`Archive`."""
        events: Sequence[tuple[int, bytes]] = self._answer(Question("events_after", (event_id, limit)))
        return events

    @property
    def dead_groups(self) -> DeadGroups:
        """Return the groups of dead letters; every store counts along."""
        return self._store.dead_groups

    def is_grouped(self, queue: str) -> bool:
        """Return whether its groups add up; every store counts along."""
        return self._store.is_grouped(queue)

    def kept_of(self, queue: str) -> tuple[int, int]:
        """Return how many finished jobs of a queue are kept; every store counts along."""
        return self._store.kept_of(queue)

    def queues_after(self, name: str, limit: int) -> list[str]:
        """Return the next queues of which finished jobs are remembered; every store knows them."""
        return self._store.queues_after(name, limit)

    def _answer(self, question: Question) -> Any:
        if question not in self._known:
            raise Unread(question)
        return self._known[question]


class _Asking(Begun, kw_only=True):
    """A command that has not been run, since it needs an answer of the archive first."""

    question: Question
    size: int
    sender: By
    sliced: bool


class AwaitingCore(Core):
    """The front door of a server whose store is a network away."""

    def __init__(self, engine: Engine, journal: Journal, clock: Clock, lookups: Lookups, *, pollers_max: int) -> None:
        super().__init__(engine, journal, clock, pollers_max=pollers_max)
        self._lookups = lookups
        self.schedules: Alarm = Alarm()
        """Goes off when schedules are due."""
        journal.on_commit.append(lookups.committed)

    def begin(
        self, command: c.Command, owner: str | None = None, *, size: int = 0, by: By = SERVER, sliced: bool = False,
        is_checked: bool = False,
    ) -> Begun:  # fmt: skip
        """Run ``command``, or say that it is to wait; see :class:`Core`.

        Raises:
            Refused: as there; or another server may lead already, and know better.
        """
        try:
            return self._begin(command, owner, size, by, sliced=sliced, is_checked=is_checked)
        except Unread as unread:
            return _Asking(
                command,
                owner,
                r.EMPTY_PULL,
                waits=True,
                at=trio.current_time(),
                question=unread.question,
                size=size,
                sender=by,
                sliced=sliced,
            )

    @property
    def is_sure(self) -> bool:
        """Whether nobody else can lead yet."""
        return self._lookups.leads()

    async def finish(self, begun: Begun) -> r.Reply:
        """Wait for the answers that it needs, if any, and then as every core does; see :class:`Core`."""
        if not isinstance(begun, _Asking):
            return await super().finish(begun)
        begin = partial(self._begin, begun.command, begun.owner, begun.size, begun.sender, sliced=begun.sliced)
        try:
            ready = await self._learn(begin, begun.question)
        except StoreError as error:
            raise errors.STORAGE_DOWN.refuse() from error
        return await super().finish(ready) if ready.waits or ready.epoch else ready.reply

    def stop_poll(self, begun: Begun) -> bool:
        """Let a waiting pull end empty; see :class:`Core`. One that waits for an answer of the store is no such pull."""
        return not isinstance(begun, _Asking) and super().stop_poll(begun)

    async def knowing(self, do: Callable[[], T], known: list[Any] | None = None) -> T:
        """Do a step, and return what it does, once all that it asks is known; see :class:`Core`.

        Raises:
            StoreError: the store did not answer.
            Refused: what it tells changed again and again.
        """
        return await self._learn(do, None, known)

    @contextmanager
    def remembering(self) -> Iterator[list[Any]]:
        """Give a place for answers that several steps use; see :class:`Core`."""
        looks: list[Any] = []
        try:
            yield looks
        finally:
            self._lookups.close(looks)

    def _begin(
        self, command: c.Command, owner: str | None, size: int, by: By, *, sliced: bool, is_checked: bool = False
    ) -> Begun:
        """Run ``command``, unless another server may lead meanwhile."""
        if not self._lookups.leads():
            raise errors.STORAGE_DOWN.refuse(retry_after=2)
        return super().begin(command, owner, size=size, by=by, sliced=sliced, is_checked=is_checked)

    def _set_alarms(self) -> None:
        super()._set_alarms()
        self.schedules.set(self._engine.planner.due)

    async def _learn(self, do: Callable[[], T], question: Question | None, known: list[_Look] | None = None) -> T:
        """Return what ``do`` returns, once it and ``question`` ask for nothing more; ``known`` is known already, and what is added to it is kept.

        Raises:
            StoreError: the store did not answer.
            Refused: what it tells changed again and again.
        """
        looks: list[_Look] = [] if known is None else known
        left, repeats_left = LOOKS_MAX, REPEATS_MAX
        try:
            while left > 0 and repeats_left > 0:
                if question is not None:
                    left -= 1
                    looks.append(await self._lookups.ask(question))
                if old := [look for look in looks if not look.is_fresh]:
                    repeats_left -= 1
                    self._lookups.close(old)
                    looks[:] = [look for look in looks if look.is_fresh]
                self._lookups.know(looks)
                try:
                    return do()
                except Unread as unread:
                    question = unread.question
                finally:
                    self._lookups.know(())
        finally:
            if known is None:
                self._lookups.close(looks)
        raise errors.OVERLOADED.refuse(retry_after=1)
