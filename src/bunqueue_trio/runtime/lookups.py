"""The archive of a store that is a network away: what a command needs from it is awaited before its step.

Theory of operation. A step of the engine cannot wait. So a command runs with the answers that are known; the first
question without one ends it with :class:`Unread`, having changed nothing, as when a disk cannot be read. The answer is
awaited, and the command runs anew with all of them, until nothing is missing. Few commands ask anything, most of them
once.

An answer tells of the store in some moment between question and answer. What the engine has in memory counts before it.
What has ended, was deleted or replaced, and has left memory meanwhile would be missed: so each look notes what the commits
since its question have touched, and one that tells of any of that is taken again.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import trio

from bunqueue_trio import errors
from bunqueue_trio.config import LOOKS_MAX
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.job import UNFINISHED, Job, Records, State, Trace
from bunqueue_trio.engine.ranking import DeadGroups
from bunqueue_trio.engine.trails import TrailPage
from bunqueue_trio.errors import StoreError
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.caller import SERVER, By
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
    """The archive as the engine sees it."""

    at_once = False

    def __init__(self, store: AwaitedStore) -> None:
        self._store = store
        self._known: dict[Question, Any] | None = None
        """The answers that the running command may use; None: no command runs, and whoever asks may wait, as a start does."""
        self._looks: dict[_Look, None] = {}

    @contextmanager
    def knowing(self, looks: Sequence[_Look]) -> Iterator[None]:
        """Let the command that runs inside know the answers in ``looks``, and nothing else of the archive."""
        self._known = {look.question: look.answer for look in looks}
        try:
            yield
        finally:
            self._known = None

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
        if self._known is None:
            return self._store.find(job_id)
        job: Job | None = self._answer(Question("find", (job_id,), ids=(job_id,)))
        return job

    def outcomes(self, job_ids: Sequence[str]) -> dict[str, State]:
        """Return how some jobs ended; see :class:`Archive`."""
        if self._known is None or not job_ids:
            return self._store.outcomes(job_ids)
        ids = tuple(sorted(job_ids))
        states: dict[str, State] = self._answer(Question("outcomes", (ids,), ids=ids))
        return states

    def records(
        self, queue: str, state: State, before: int | None, limit: int, fingerprint: str | None = None,
        *, oldest: bool = False,
    ) -> Records:  # fmt: skip
        """Return some of the finished jobs of a queue; see :class:`Archive`."""
        if self._known is None:
            return self._store.records(queue, state, before, limit, fingerprint, oldest=oldest)
        asked = (queue, state, before, limit, fingerprint)
        records: Records = self._answer(Question("records", asked, (("oldest", oldest),)))
        return records

    def trail(self, kind: str, key: str, place: int | None, limit: int, *, newest: bool) -> TrailPage:
        """Return lines of a trail; see :class:`Archive`."""
        if self._known is None:
            return self._store.trail(kind, key, place, limit, newest=newest)
        page: TrailPage = self._answer(Question("trail", (kind, key, place, limit), (("newest", newest),)))
        return page

    def first_seen(self, queue: str, fingerprint: str) -> int | None:
        """Return when the oldest dead letter of an error has died; see :class:`Archive`."""
        if self._known is None:
            return self._store.first_seen(queue, fingerprint)
        moment: int | None = self._answer(Question("first_seen", (queue, fingerprint)))
        return moment

    def traces(self, first: str, end: str, limit: int) -> list[Trace]:
        """Return what is kept of some jobs; see :class:`Archive`."""
        if self._known is None:
            return self._store.traces(first, end, limit)
        traces: list[Trace] = self._answer(Question("traces", (first, end, limit)))
        return traces

    @property
    def last_event_id(self) -> int:
        """Return the id of the newest event, which every store knows."""
        return self._store.last_event_id

    def first_event_id(self) -> int:
        """Return the id of the oldest kept event; see :class:`Archive`."""
        if self._known is None:
            return self._store.first_event_id()
        return int(self._answer(Question("first_event_id", ())))

    def events_after(self, event_id: int, limit: int) -> Sequence[tuple[int, bytes]]:
        """Return kept events; see :class:`Archive`."""
        if self._known is None:
            return self._store.events_after(event_id, limit)
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
        assert self._known is not None
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
        journal.on_commit.append(lookups.committed)

    def begin(
        self, command: c.Command, owner: str | None = None, *, size: int = 0, by: By = SERVER, sliced: bool = False
    ) -> Begun:
        """Run ``command``, or say that it is to wait; see :class:`Core`.

        Raises:
            Refused: as there; or another server may lead already, and know better.
        """
        if not self._lookups.leads():
            raise errors.STORAGE_DOWN.refuse(retry_after=2)
        return self._begin(command, owner, size, by, (), sliced=sliced)

    @property
    def is_sure(self) -> bool:
        """Whether nobody else can lead yet."""
        return self._lookups.leads()

    async def finish(self, begun: Begun) -> r.Reply:
        """Wait for the answers that it needs, if any, and then as every core does; see :class:`Core`."""
        if not isinstance(begun, _Asking):
            return await super().finish(begun)
        ready = await self._find_out(begun)
        return await super().finish(ready) if ready.waits or ready.epoch else ready.reply

    def stop_poll(self, begun: Begun) -> bool:
        """Let a waiting pull end empty; see :class:`Core`. One that waits for an answer of the store is no such pull."""
        return not isinstance(begun, _Asking) and super().stop_poll(begun)

    def _begin(
        self, command: c.Command, owner: str | None, size: int, by: By, looks: Sequence[_Look], *, sliced: bool
    ) -> Begun:
        try:
            with self._lookups.knowing(looks):
                return super().begin(command, owner, size=size, by=by, sliced=sliced)
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

    async def knowing(self, do: Callable[[], T]) -> T:
        """Do a step once all that it needs is known; see :class:`Core`.

        Raises:
            Refused: as :meth:`_learn`.
        """

        told: list[T] = []

        def attempt(looks: Sequence[_Look]) -> Question | None:
            try:
                with self._lookups.knowing(looks):
                    told.append(do())
            except Unread as unread:
                return unread.question
            return None

        await self._learn(None, attempt)
        return told[0]

    async def _find_out(self, begun: _Asking) -> Begun:
        """Run the command once all that it needs is known.

        Raises:
            Refused: as :meth:`begin` and :meth:`_learn`.
        """
        ready: Begun = begun

        def attempt(looks: Sequence[_Look]) -> Question | None:
            nonlocal ready
            ready = self._begin(begun.command, begun.owner, begun.size, begun.sender, looks, sliced=begun.sliced)
            return ready.question if isinstance(ready, _Asking) else None

        await self._learn(begun.question, attempt)
        return ready

    async def _learn(
        self, question: Question | None, attempt: Callable[[Sequence[_Look]], Question | None]
    ) -> None:  # fmt: skip
        """Find out what ``attempt`` asks for, and ``question`` before it, until it is done.

        Raises:
            Refused: the store did not answer, or what it tells changed again and again.
        """
        looks: list[_Look] = []
        try:
            for _ in range(LOOKS_MAX):
                if question is not None:
                    looks.append(await self._lookups.ask(question))
                    self._lookups.close([look for look in looks if not look.is_fresh])
                    looks = [look for look in looks if look.is_fresh]
                question = attempt(looks)
                if question is None:
                    return
        except StoreError as error:
            raise errors.STORAGE_DOWN.refuse() from error
        finally:
            self._lookups.close(looks)
        raise errors.OVERLOADED.refuse(retry_after=1)
