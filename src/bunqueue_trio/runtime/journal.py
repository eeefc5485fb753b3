"""Group commit: what waits for the disk, and the task that brings it there.

The truth about waiting lives here, not in the flusher task: a flusher that is restarted goes on with the very same batch. Batches are committed in
order, one at a time; while one is written the next gathers. An answer is released, and its events are published, only after its batch is committed.

Theory of operation. The engine marks each step with its *epoch*, the number of the batch that will hold it. A batch is in one of three places:

- gathering: in the engine, as changed jobs and events. ``note`` wakes the flusher, once. While there are only deliveries, which are answered
  already, it lingers (``summons.py``); who waits lets it ``hurry``.
- being written: ``_writing``, at most one: rows made by ``_take``, which moves the engine on. It is tried until it is taken.
- committed: ``_finish`` sets ``committed``, lets the engine forget what has ended, releases who waited and publishes the events, in one step.

Who waits for an epoch waits for the event of the place where it is, and finds it committed, or gets an error after GIVE_UP_S: it may never be committed. A batch
given up for its waiters is still tried: the engine holds its changes. One that meets a damaged page is given up at once and for good, and so is all that comes
behind it: it would build on what is not in the file (``standing.py``).

There are two ways to the disk. The flusher takes everything and awaits the store, which lets others run meanwhile when the batch is large or durable, or the
disk slow; it may be a network away. A lone client's change is committed in its own step (``commit_alone``), which spares two switches of tasks; never while the
disk fails, which may take long to say so. Both hold ``disk``, as does retention. A bulk push of many jobs takes several steps (``core.py``), and is one batch all
the same: while it is half in (``half.py``) none is taken. A large batch is made (``making.py``), counted and let go of (``afterwards.py``) in many steps.

A read of one job waits only for the batch that holds its last change (``epoch_of``); a list for all of them, but not while the disk ``is_stuck``. New work is
refused by ``check`` when too much gathers (``pressure.py``); what empties the queues only at twice that. What happens by itself (the dependents of a job that
has ended, deadlines that pass together) is never refused: it waits in ``wait_room`` for a batch of its own, none so large that it holds others up.
"""

from collections.abc import Callable, Collection

import trio

from bunqueue_trio import errors
from bunqueue_trio.config import (
    COMMIT_RETRY_MAX_MS,
    COMMIT_RETRY_MIN_MS,
    COMMITS_IN_A_ROW_MAX,
    GIVE_UP_S,
    INLINE_ROWS_MAX,
    INLINE_S_MAX,
    LARGE_BODY_BYTES,
    LOOK_PATIENCE_MS,
    MIB,
    ROOM_S,
    SMALL_BODY_BYTES,
    TURN_S,
    WRITTEN_ALONE,
)
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.facts import Fact
from bunqueue_trio.engine.job import Job
from bunqueue_trio.errors import InvariantBroken, StoreBusy, StoreError
from bunqueue_trio.runtime.afterwards import Afterwards
from bunqueue_trio.runtime.bell import Bell
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.half import Half
from bunqueue_trio.runtime.pressure import Pressure
from bunqueue_trio.runtime.standing import Standing
from bunqueue_trio.runtime.summons import Summons
from bunqueue_trio.storage.making import MADE_AT_ONCE, MADE_WHEN_TAKEN, Making
from bunqueue_trio.storage.store import Batch, Store

OnCommit = Callable[[Batch, float], None]
"""Called after each commit with the batch and the seconds it took; must not block or raise."""


class Journal(Standing):
    """The changes of an engine on their way to a store."""

    def __init__(
        self, engine: Engine, store: Store, clock: Clock, *, pending_max: int, pending_max_bytes: int = 64 * MIB,
        stamp: Callable[[int], int] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(clock)
        self._engine, self._stamp, self._store = engine, stamp, store
        self._pressure = Pressure(pending_max, pending_max_bytes)
        self._bytes = self._bytes_taken = 0
        """Of the requests whose changes gather now, and of those whose changes are being written."""
        self._gathered = trio.Event()
        self._making = Making()
        self._writing: tuple[Batch, trio.Event] | None = None
        self.afterwards: Afterwards = Afterwards(engine)
        self.half: Half = Half()
        self.summons: Summons = Summons()
        """Of the flusher."""
        self.in_turn: bool = False
        """A step of many commands is under way, which commits at its end."""
        self.disk: trio.Lock = trio.Lock()
        """Held by whoever writes to the store: flusher, retention, the checkpointer's last step."""
        self.committed: int = 0
        """The last committed epoch."""
        self._last_waiter: trio.lowlevel.Task | None = None
        self.given_up: int = 0
        """The last epoch whose waiters got an error, since it may never be committed."""
        self._halted: InvariantBroken | None = None
        self._not_mine: BaseException | None = None
        self._bells: dict[Bell, None] = {}
        self.on_commit: list[OnCommit] = []
        self.on_told: list[OnCommit] = [self.afterwards.count]
        """The same, after all of those: for who only counts, and shall hold up no answer."""
        self.on_give_up: list[Callable[[], None]] = []
        """Called when nobody shall wait any longer for a batch that the disk refuses; must not block or raise."""
        self.commits: int = 0
        self.durable_commits: int = 0

    @property
    def pending(self) -> int:
        """How many changed jobs wait for the disk."""
        return len(self._engine.changed) + len(self.writing)

    @property
    def writing(self) -> Collection[Job]:
        """The jobs whose changes are being written."""
        return self._writing[0].jobs if self._writing else ()

    @property
    def writing_facts(self) -> Collection[Fact]:
        """The facts that are written with them."""
        return self._writing[0].facts if self._writing else ()

    @property
    def is_stuck(self) -> bool:
        """Whether the disk refuses a commit, or takes so long that reads do not wait for it."""
        late = self._writing is not None and self._clock.now() - self._writing[0].at > LOOK_PATIENCE_MS
        return late or self.failing is not None

    def check(self, size: int = 0, *, fills: bool = True) -> None:
        """Raise ``Refused`` (503) when a change of ``size`` bytes could not be committed in reasonable time; commands that empty the queues may take longer."""
        self.check_disk(fills=fills)
        jobs = len(self._engine.changed)
        if fills:
            full = self._pressure.refuses(jobs, self._bytes) or (size > SMALL_BODY_BYTES and self._full)
        else:
            full = self._pressure.refuses_to_empty(jobs, self._bytes)
        if full:
            raise errors.OVERLOADED.refuse(retry_after=1)

    def note_failure(self, error: StoreError) -> None:
        """Note why nothing can be written now."""
        self._note_refusal(error, len(self.writing))
        self._pressure.ease()

    def note_answer(self) -> None:
        """Note that something can be written, unless a batch has still to show it."""
        if self._writing is None:
            self._note_success()

    def must_wait(self, size: int, small: int = SMALL_BODY_BYTES) -> bool:
        """Return whether a request of ``size`` bytes has to :meth:`wait_turn` now; up to ``small`` it has not."""
        is_behind = (size > small and self._full) or (size > SMALL_BODY_BYTES and self.half.is_there)
        return size > LARGE_BODY_BYTES or is_behind

    async def wait_turn(self) -> None:
        """Wait in line until the disk could soon take the changes of a large request; at most TURN_S.

        One after the other: small ones are served in between, and go to the disk before. Who still waits then is refused by :meth:`check`.
        """
        with trio.move_on_after(TURN_S):
            async with self._pressure.line:
                has_let_pass = False
                while self.failing is None:
                    done = self._in_the_way()
                    if done is None:
                        if has_let_pass or not self.gathering:
                            break
                        has_let_pass, done = True, self._pressure.eased()
                    await done.wait()

    async def wait_room(self) -> None:
        """Wait until the batch that gathers is not full, at most ROOM_S; and not at all while the disk fails.

        For what happens by itself, such as what the end of a job means for 100,000 others: it goes on with the next batch.
        """
        with trio.move_on_after(ROOM_S):
            while self._engine.is_full and self.failing is None:
                await self._pressure.eased().wait()

    def _in_the_way(self) -> trio.Event | None:
        """Return the end of the commit that a large request has to wait for, if there is one."""
        if self._full:
            return self._gathered
        if self.half.over is not None:
            return self.half.over
        if self._writing is not None and len(self._writing[0].jobs) > WRITTEN_ALONE:
            return self._writing[1]
        return None

    @property
    def _full(self) -> bool:
        return self._pressure.fills(len(self._engine.changed), self._bytes)

    def epoch_of(self, job_id: str) -> int:
        """Return the batch that the last change of a job waits for, 0 when it is committed, or there is no such job."""
        engine, writing = self._engine, self._writing
        job = engine.jobs.find(job_id)
        if engine.is_removed(job_id) if job is None else job in engine.changed:
            return engine.epoch
        if writing is not None and (job_id in writing[0].removed_ids if job is None else job in writing[0].jobs):
            return writing[0].epoch
        return 0

    @property
    def last_epoch(self) -> int:
        """The batch that the last change of all waits for, 0 when everything is committed."""
        if self.gathering:
            return self._engine.epoch
        return 0 if self._writing is None else self._writing[0].epoch

    def note_size(self, size: int) -> None:
        """Count the bytes of a request whose changes gather now."""
        self._bytes += size

    def forget_size(self) -> None:
        """Count no bytes where nothing gathers: what came may have changed nothing, and no commit would forget it."""
        if not self.gathering:
            self._bytes = 0

    def note(self, *, durable: bool = False, is_awaited: bool = True) -> None:
        """Let what the engine just did be committed; fsynced if it is ``durable``, and soon if it ``is_awaited``."""
        self._making.durable = self._making.durable or durable
        if is_awaited:
            self.hurry()
        if not self.in_turn:
            self.summons.send()

    def hurry(self) -> None:
        """Let what gathers be committed soon: somebody waits for it."""
        self.summons.is_awaited = True
        if not self.in_turn:
            self.summons.hurry()

    def note_part(self) -> None:
        """Do so after a part of a bulk command, and make some rows of the batch."""
        self._making.make_some(self._engine, MADE_AT_ONCE)
        self.note()

    def ring_on_commit(self, bell: Bell) -> None:
        """Ring ``bell`` after the next commit."""
        self._bells[bell] = None
        self.hurry()

    async def wait_committed(self, epoch: int) -> None:
        """Wait until the batch ``epoch``, and with it every earlier one, is committed.

        Raises:
            Refused: the disk has refused it for so long that nobody waits for it any more; see :meth:`flush`.
        """
        if epoch <= self.committed:
            if self.commits % COMMITS_IN_A_ROW_MAX == 0:
                # A client that changes something again and again, committed in its own step each time, must not shut everybody else out.
                await trio.lowlevel.checkpoint()
            return
        writing = self._writing
        self.hurry()
        await (writing[1] if writing is not None and epoch == writing[0].epoch else self._gathered).wait()
        self.check_committed(epoch)

    def check_committed(self, epoch: int) -> None:
        """Raise ``Refused`` (503) when nobody shall wait any longer for the batch ``epoch``."""
        if self.committed < epoch <= self.given_up:
            raise self.unsettled()

    def halt(self, reason: InvariantBroken) -> None:
        """Write nothing any more: the engine's memory cannot be trusted."""
        self._halted = reason

    def commit_alone(self) -> bool:
        """Commit in this very step if nobody shares the commit with this task; return whether it was done.

        A task that was also the last one to change something has no company: it spares two switches of tasks. A wrong guess costs one small commit.
        """
        # The task itself, not its id(): that comes back for another task when the allocator likes.
        waiter = trio.lowlevel.current_task()
        alone, self._last_waiter = waiter is self._last_waiter, waiter
        return alone and self.commit_at_once()

    def commit_at_once(self) -> bool:
        """Commit what waits now in this very step; return whether that was possible and succeeded.

        A batch that the disk refuses, or that is not small, is left to the flusher.
        """
        is_slow = self._pressure.last_s > INLINE_S_MAX
        if is_slow or self._writing is not None or self._making.durable or self.failing is not None:
            return False
        if self.half.is_there or len(self._engine.changed) > INLINE_ROWS_MAX or not self._store.at_once:
            return False
        # Nobody could take it before this step ends: to look is to hold it.
        if self.disk.locked() or self.afterwards.is_busy:
            return False
        try:
            batch, done = self._writing = self._take()
            begun = self._clock.time()
            if self._store.inline or batch.is_small():
                self._store.commit(batch)
                self._finish(batch, done, self._clock.time() - begun)
                return True
        except StoreError as error:
            # Where it only has to be waited for, the flusher does so in a thread.
            if not isinstance(error, StoreBusy):
                self.note_failure(error)
        except BaseException as error:  # noqa: ASYNC103 - nothing is awaited here, so it is no Cancelled
            # This is no trouble of the client whose request it is: the flusher fails because of it.
            self._not_mine = error
        # Nothing gathers any more, of which a turn would tell it at its end.
        self.summons.send()
        return False

    async def run(self) -> None:
        """Commit batch after batch, for ever. This is the persistence flusher."""
        while True:
            if not self.dirty:
                await self.summons.wait()
                if self.gathering and not self.summons.is_awaited:
                    await self.summons.linger()
            if self._not_mine is not None:
                error, self._not_mine = self._not_mine, None
                raise error
            if self.dirty:
                await self.flush()
                if self.is_damaged:
                    # Who has come since, by a command that was half done, hears of it as well.
                    await trio.sleep(COMMIT_RETRY_MAX_MS / 1000)

    @property
    def dirty(self) -> bool:
        """Whether anything waits for the disk."""
        return self._writing is not None or self.gathering

    @property
    def gathering(self) -> bool:
        """Whether anything has happened since the last batch was taken."""
        engine = self._engine
        return bool(engine.changed) or bool(engine.events) or engine.has_changes

    async def flush(self) -> None:
        """Commit everything that waits now, trying again until the disk takes it; wait for a change that is half in, and for that alone.

        A batch that has met damage is left at once, with ``is_damaged``: nobody waits for it.
        """
        if self.half.is_there:
            await self.half.wait()
            # Others have run meanwhile, and may have taken a batch: whoever calls looks anew at what is to be done.
            return
        if self._writing is None:
            if self._making.make_some(self._engine, MADE_WHEN_TAKEN):
                await trio.lowlevel.checkpoint()
                return
            self._writing = self._take()
        while not self._making.is_whole:
            await trio.lowlevel.checkpoint()
            self._making.fill_some()
        batch, retry_ms = self._writing[0], COMMIT_RETRY_MIN_MS
        patience = trio.current_time() + GIVE_UP_S
        while (seconds := await self._commit(batch)) is None:
            if self.is_damaged:
                self.give_up()
                return
            if trio.current_time() >= patience:
                self.give_up()
            await trio.sleep(retry_ms / 1000)
            retry_ms = min(retry_ms * 2, COMMIT_RETRY_MAX_MS)
        self._finish(batch, self._writing[1], seconds)
        # To tell of it, to forget it and to take the next one are several steps.
        if len(batch.jobs) > INLINE_ROWS_MAX:
            await self.afterwards.rest()

    def give_up(self) -> None:
        """Let nobody wait any longer for the batch that is being written, if one is, nor for the one that gathers behind it."""
        if self._writing is None:
            return
        (batch, done), gathered = self._writing, self._gathered
        self.given_up = self._engine.epoch if self.gathering else batch.epoch
        self._writing, self._gathered = (batch, trio.Event()), trio.Event()
        done.set()
        gathered.set()
        self._ring_bells()
        for hear in self.on_give_up:
            hear()

    def _finish(self, batch: Batch, done: trio.Event, seconds: float) -> None:
        """Let the world know of a committed batch. One step: the batch is finished, whole, or the process ends."""
        self._writing = None
        self.note_answer()
        self._pressure.last_s = seconds
        # An fsync takes what it takes: a smaller batch makes it no shorter.
        if not batch.durable:
            self._pressure.learn(len(batch.jobs), self._bytes_taken, seconds)
        self.committed = batch.epoch
        self.commits += 1
        self.durable_commits += batch.durable
        try:
            self.afterwards.begin(batch)
            done.set()
            if self._bells:
                self._ring_bells()
            for hear in (*self.on_commit, *self.on_told):
                hear(batch, seconds)
        except Exception as error:
            raise InvariantBroken("a batch is committed, and not everybody has heard of it") from error

    def _ring_bells(self) -> None:
        bells, self._bells = self._bells, {}
        for bell in bells:
            bell.ring()

    def _take(self) -> tuple[Batch, trio.Event]:
        if self._halted is not None:
            raise self._halted
        assert self._writing is None, "a batch that is not written yet would be lost"
        changes, last_event_id, at = self._engine.take(), self._store.last_event_id, self._clock.now()
        stamp = at if self._stamp is None else self._stamp(at)
        try:
            batch = self._making.batch(changes, at, last_event_id=last_event_id, stamp=stamp)
        except Exception as error:
            # The engine has let go of these changes, so there is no going on.
            raise InvariantBroken("the engine holds what no store can") from error
        done, self._gathered = self._gathered, trio.Event()
        self.summons.is_awaited = False
        self.half.note_written(done, len(batch.jobs))
        self._pressure.ease()
        self._bytes, self._bytes_taken = 0, self._bytes
        return batch, done

    async def _commit(self, batch: Batch) -> float | None:
        """Return the seconds that the commit took, or None when the disk refused it, or is not asked any more."""
        if self.is_damaged:
            await trio.lowlevel.checkpoint()
            return None
        try:
            self.disk.acquire_nowait()
        except trio.WouldBlock:
            await self.disk.acquire()
        try:
            begun = trio.current_time()
            # A disk that is down may take its whole busy timeout to say so.
            is_quick = batch.is_small() and self._pressure.last_s <= INLINE_S_MAX and self.failing is None
            await self._store.write(batch, quick=is_quick)
            return trio.current_time() - begun
        except StoreError as error:
            self.note_failure(error)
            return None
        finally:
            self.disk.release()
