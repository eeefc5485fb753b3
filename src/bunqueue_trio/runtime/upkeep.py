"""What somebody wants done to the file of the store: a copy, a look at all of it, room given back. One at a time, beside the work of others.

It begins with the command that asks for it. A stop of the server ends it where it is, and leaves no half of a copy; nor does the end
of the process at any moment, but under a name that the next start clears away.
"""

import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import structlog
import trio

from bunqueue_trio.config import AUDIT_FINDINGS_MAX, SHRINK_BYTES, SHRINK_PAUSE_MS, Settings
from bunqueue_trio.engine.upkeep import DONE, FAILED, PLANNED, Upkeep
from bunqueue_trio.errors import StoreDamaged, StoreError
from bunqueue_trio.protocol.commands.upkeep import NO_UPKEEP
from bunqueue_trio.protocol.server_replies import BackupsView, UpkeepView
from bunqueue_trio.runtime.audit import Auditor
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.journal import Journal
from bunqueue_trio.storage.copies import Place, clear, is_loose, look_at, name_of, room_of
from bunqueue_trio.storage.store import Space, Store

_log = structlog.get_logger()

# How often the directory of the copies is looked at: others may fill its disk.
LOOK_S = 2.0
# What reads and writes all of a file rests as long as it has worked, but no longer than this at a time.
REST_S = 0.1
# A stop waits that long for a copy to end and to clear itself away. What is left of it then, the next start clears away.
STOP_S = 2.0
STOPPED = "the server has stopped"


class StoreKeeper:
    """Plans and does it; what it does is in ``upkeep``, for all to see."""

    def __init__(
        self, upkeep: Upkeep, journal: Journal, store: Store, clock: Clock, audit: Auditor, settings: Settings, space: Callable[[], Space],
        on_end: Callable[[], None],
    ) -> None:  # fmt: skip
        self._upkeep = upkeep
        self._journal = journal
        self._store = store
        self._clock = clock
        self._audit = audit
        self._settings = settings
        self._space = space
        self._on_end = on_end
        self._place: Place | None = None
        self._is_over, self._writing = threading.Event(), trio.CancelScope()
        self._directory = None if settings.backup_dir is None else Path(settings.backup_dir)
        # One at a time: the next one is refused while another is under way.
        self._send, self._receive = trio.open_memory_channel[UpkeepView](1)
        self._works: Mapping[str, tuple[Callable[[], UpkeepView], Callable[[UpkeepView], Awaitable[None]]]] = {
            "backup": (self._plan_backup, self._back_up),
            "check": (self._plan_check, self._check),
            "shrink": (self._plan_shrink, self._shrink),
        }
        upkeep.plan = self._plan
        upkeep.on_begin = self._send.send_nowait

    def works(self) -> tuple[UpkeepView, ...]:
        """Return what is under way, and what became of the last of each kind."""
        return tuple(self._upkeep.last.values())

    def backups(self) -> BackupsView | None:
        """Return what copies there are; None: they are not this server's to make."""
        if self._store.file is None:
            return None
        view = BackupsView(directory=self._settings.backup_dir, kept=self._settings.backups_kept)
        if (place := self._place) is not None:
            view.copies, view.error = len(place.copies), self._what_hinders(place)
            if place.copies:
                view.last_at, view.last_bytes = place.copies[-1].at, place.copies[-1].size
        return view

    async def run(self) -> None:
        """Do what is asked for, and know the directory of the copies."""
        self._is_over = threading.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end_writing)
            if self._directory is not None and self._store.file is not None:
                nursery.start_soon(self._watch)
            async for work in self._receive:
                await self._do(work)

    # --- what would be done -----------------------------------------------------------------------

    def _plan(self, kind: str) -> UpkeepView:
        if self._store.file is None:
            raise NO_UPKEEP.refuse(
                "the queue is in a database, which looks after its own: `pg_dump` copies it"
                if self._settings.store
                else "the queue is in memory only, and no file"
            )
        return self._works[kind][0]()

    def _plan_backup(self) -> UpkeepView:
        if self._directory is None:
            raise NO_UPKEEP.refuse("BACKUP_DIR names no directory for copies; see the settings")
        place, file = self._place, self._store.file
        if place is None:
            raise NO_UPKEEP.refuse(f"BACKUP_DIR {self._directory}: was not looked at yet")
        if (why := self._what_hinders(place)) is not None:
            raise NO_UPKEEP.refuse(f"BACKUP_DIR {self._directory}: {why}")
        assert file is not None
        taken = {each.name for each in place.copies}
        leaving = place.copies[: max(0, len(place.copies) + 1 - self._settings.backups_kept)]
        return UpkeepView(
            kind="backup", state=PLANNED, bytes=self._copy_bytes(), file=str(self._directory.absolute() / name_of(file, self._clock.now(), taken)),
            room=place.room, drops=[each.name for each in leaving],
        )  # fmt: skip

    def _what_hinders(self, place: Place) -> str | None:
        """Return why no copy can be made now; None: one can."""
        needed = self._copy_bytes() + (self._settings.disk_reserve_bytes if place.is_shared else 0)
        if place.error is None and place.room < needed:
            return f"a copy needs {needed:,} bytes, and its disk has {place.room:,} left"
        return place.error

    def _copy_bytes(self) -> int:
        """Return what a copy has at most: some of the log is in the file already."""
        space = self._space()
        return space.file - (space.free if is_loose(space.free, space.file) else 0) + self._store.log_bytes()

    def _plan_check(self) -> UpkeepView:
        return UpkeepView(kind="check", state=PLANNED, bytes=self._space().file + self._store.log_bytes())

    def _plan_shrink(self) -> UpkeepView:
        if not self._store.shrinks:
            raise NO_UPKEEP.refuse(
                "an early version made the file, and it gives nothing back: `bunqueue-trio shrink` makes it anew, with the server stopped"
            )
        return UpkeepView(kind="shrink", state=PLANNED, bytes=self._space().free)

    # --- doing it ---------------------------------------------------------------------------------

    async def _do(self, work: UpkeepView) -> None:
        # Of whatever ends it otherwise; while it goes on it has none.
        error: str | None = STOPPED
        try:
            await self._works[work.kind][1](work)
            error = None
        except (StoreError, OSError) as failed:
            error = str(failed)
        finally:
            work.error, work.ended_at = error, self._clock.now()
            work.state = DONE if error is None else FAILED
            self._on_end()
        told = {"kind": work.kind, "bytes": work.bytes, "file": work.file, "findings": work.findings or None}
        if work.error is None:
            _log.info("upkeep is done", **told)
        else:
            _log.warning("upkeep has failed", error=work.error, **told)

    async def _back_up(self, work: UpkeepView) -> None:
        failure: StoreError | OSError | None = None
        try:
            with trio.CancelScope(shield=True) as self._writing:
                await trio.to_thread.run_sync(self._write_copy, work, abandon_on_cancel=True)
        except (StoreError, OSError) as failed:
            failure = failed
        # After a failure too: the directory may be another one since the last look, and that is why.
        await self._look()
        if failure is not None:
            raise failure

    async def _end_writing(self) -> None:
        """When the server stops let the thread of a copy end, and wait for it no longer than a while: its disk may take long, or for ever."""
        try:
            await trio.sleep_forever()
        finally:
            self._is_over.set()
            self._writing.deadline = trio.current_time() + STOP_S

    def _write_copy(self, work: UpkeepView) -> None:
        """Write a copy, in a thread, and delete those that it takes the place of."""
        assert work.file is not None
        target, rest, is_over = Path(work.file), Rest(), self._is_over
        reserve = self._settings.disk_reserve_bytes if self._place is not None and self._place.is_shared else 0

        def on_progress(done: int, total: int) -> None:
            if is_over.is_set():
                raise StoreError(STOPPED)
            work.done, work.total = done, total
            if room_of(target.parent) < reserve:
                raise StoreError(f"{target}: its disk has no room left but what is kept for acks")
            rest.take()

        if target.exists():
            raise StoreError(f"{target}: exists already")
        work.bytes = self._store.copy_to(target, on_progress)
        for name in work.drops:
            try:
                (target.parent / name).unlink(missing_ok=True)
            except OSError as error:
                raise StoreError(f"the copy is whole, but {name} cannot be deleted: {error.strerror}") from None

    async def _check(self, work: UpkeepView) -> None:
        parts = self._store.parts()
        work.total = len(parts)
        for part in parts:
            rest = Rest()
            try:
                await trio.to_thread.run_sync(self._store.look_over, part, partial(_goes_on, rest))
            except StoreDamaged as damaged:
                work.findings.append(str(damaged))
            work.done += 1
        # What was met before, by whatever has read it.
        if (damage := self._store.damage) is not None and not any(damage in each for each in work.findings):
            work.findings.append(damage)
        # All jobs are looked at anyway, pass after pass.
        work.findings += [each.what for each in islice(self._audit.findings.values(), AUDIT_FINDINGS_MAX)]

    async def _shrink(self, work: UpkeepView) -> None:
        work.total = work.bytes
        # What becomes free meanwhile is for the next time, or jobs that come and go would keep it from its end.
        while work.done < work.total:
            async with self._journal.disk:
                given = await self._run(self._store.shrink, SHRINK_BYTES)
            if not given:
                break
            work.done += given
            await trio.sleep(SHRINK_PAUSE_MS / 1000)
        # The disk has it when the log was moved into the file.
        await self._run(partial(self._store.checkpoint, restart=False))
        work.bytes = work.done

    async def _run(self, do: Callable[..., Any], *args: Any) -> Any:
        return do(*args) if self._store.inline else await trio.to_thread.run_sync(do, *args)

    # --- the directory ----------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            await self._look()
            await trio.sleep(LOOK_S)

    async def _look(self) -> None:
        """Look at the directory; one that does not answer holds up nobody, and no stop."""
        self._place = await trio.to_thread.run_sync(self._look_now, abandon_on_cancel=True)

    def _look_now(self) -> Place:
        """Look, in a thread; the first time what killed servers have left is cleared away, which takes the room of the next copy."""
        directory, file = self._directory, self._store.file
        assert directory is not None
        assert file is not None
        place = look_at(directory, file)
        is_first = self._place is None or self._place.error is not None
        # No copy is begun before this look has ended.
        if place.error is None and is_first and self._upkeep.under_way is None:
            with suppress(OSError):
                clear(directory, file)
            place = look_at(directory, file)
        return place


class Rest:
    """Lets who works on a file in a thread rest as long as it has worked, so that the disk has time for commits."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    def take(self) -> None:
        """Rest for as long as was worked since the last one."""
        time.sleep(min(REST_S, time.monotonic() - self._since))
        self._since = time.monotonic()


def _goes_on(rest: Rest) -> bool:
    """Return that it is not over; a stop of the server raises instead."""
    trio.from_thread.check_cancelled()
    rest.take()
    return False
