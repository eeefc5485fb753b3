"""The server that waits until it may lead: behind one that lives, or until one that has died has been silent for its lease."""

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import structlog
import trio

from bunqueue_trio.config import BEATS_A_LEASE, MAINTENANCE_TOLD_MS, STANDBY_S, STORE_START_S
from bunqueue_trio.errors import StoreError
from bunqueue_trio.storage.awaited import GONE_BEATS, NoteLeader, nobody_asks
from bunqueue_trio.storage.cluster import DoorFigures
from bunqueue_trio.storage.postgres.announcer import Announcer
from bunqueue_trio.storage.postgres.place import parse_place
from bunqueue_trio.storage.postgres.schema import Incomplete
from bunqueue_trio.storage.postgres.store import PostgresStore
from bunqueue_trio.storage.postgres.terms import Seen

_log = structlog.get_logger()

# Times STANDBY_S: between two looks that are further apart the database may have been away.
_SEEN_S = 2.0
# How many looks there are in the time of one when a leader has died.
_SOON = 5


class Silence:
    """How long the leader has said nothing of the time in which it could have: while the database was seen to be there.

    A database that was away may have come back without its newest transactions, the last words of the leader among them. Who has led
    remembers what is missing, and gets the time to write it again. What is not seen does not count, and takes nothing away.
    """

    def __init__(self) -> None:
        self.seconds: float = 0.0
        self._last: Seen | None = None
        self._seen_at: float | None = None
        self._furthest = (0, 0)

    def note(self, seen: Seen, now: float) -> None:
        """Note what the row of the leader says now."""
        if seen != self._last:
            self._last, self.seconds = seen, 0.0
        elif self._seen_at is not None:
            self.seconds += min(now - self._seen_at, _SEEN_S * STANDBY_S)
        self._seen_at = now
        self._furthest = max(self._furthest, (seen.term, seen.batch))

    def may_follow(self, lease_s: float, *, is_gone: bool = False) -> bool:
        """Return whether another server may lead, by what was seen; ``lease_s``: its own lease.

        ``is_gone``: this server has reached the leader, and its machine says now that nobody is there. It gets the time of a word more:
        its address may only be wrong by now.

        Who has let go is followed at once, unless that is only what a database says that has lost a later leader.
        """
        seen = self._last
        if seen is None:
            return False
        is_newest = (seen.term, seen.batch) >= self._furthest
        if is_newest and (seen.is_free or (is_gone and self.seconds >= GONE_BEATS * seen.lease_s / BEATS_A_LEASE)):
            return True
        return self.seconds >= (lease_s if seen.is_free else seen.lease_s)

    def note_gap(self) -> None:
        """Note that nothing could be seen."""
        self._seen_at = None


class Hurry:
    """When a server that waits looks next: sooner once the leader's process has ended, and while the next one is about to serve."""

    def __init__(self) -> None:
        self.leader: tuple[str | None, bytes] | None = None
        """Where it is reached, and the key, when that was read."""
        self._holder: str | None = None
        self._until: float | None = None
        """The end of the hurry, if there is one: an address may be wrong, or never be said."""
        self._why = (False, False)
        """The next one is about to serve; the leader has ended."""

    async def rest(self, note_leader: NoteLeader, lease_s: float, holder: str | None) -> DoorFigures | None:
        """Wait until it is time for the next look; return how the door is doing that this server is meanwhile.

        ``holder``: who leads, by the last look; None: it has not said.
        """
        doing: DoorFigures | None = None
        if holder is not None and holder != self._holder:
            # One that was started anew is reached where it was before.
            note_leader(None, b"" if self.leader is None else self.leader[1])
            self._holder = holder
        starts = holder is not None and self.leader is not None and self.leader[0] is None
        for _ in range(_SOON):
            if self.leader is not None:
                doing = note_leader(*self.leader)
            why = starts, doing is not None and doing.is_gone
            if why != self._why:
                self._why, self._until = why, trio.current_time() + lease_s if any(why) else None
            await trio.sleep(STANDBY_S / _SOON)
            if self._until is not None and trio.current_time() < self._until:
                break
        return doing


async def _ask(store: PostgresStore, silence: Silence, *, is_gone: bool) -> str | None:
    """Lead, if that may be; return who does otherwise."""
    seen = await trio.to_thread.run_sync(store.seen)
    silence.note(seen, trio.current_time())
    if silence.may_follow(store.lease_s, is_gone=is_gone):
        return await trio.to_thread.run_sync(partial(store.take, last_word=seen.beat if is_gone else ""))
    return seen.holder


async def take_over(url: str, lease_s: float, on_wait: Callable[[], NoteLeader] = lambda: nobody_asks) -> PostgresStore:
    """Return the store at ``url`` once this server leads there; ``on_wait`` is called when it begins to wait.

    What that returns learns, again and again, where the leader is reached.

    Raises:
        StartupError: the database cannot be used; where it could be before, only that it is of a newer version, or can be none.
        StoreError: it cannot be reached, and could not once within STORE_START_S.
    """
    place, hurry = parse_place(url), Hurry()
    store, announcer = PostgresStore(place, lease_s), Announcer(place)
    note_leader: NoteLeader | None = None
    told: str | None = None
    told_at = 0.0
    reached = False
    doing: DoorFigures | None = None
    give_up_at, silence = trio.current_time() + STORE_START_S, Silence()
    try:
        while True:
            try:
                holder = await _ask(store, silence, is_gone=doing is not None and doing.is_gone)
                reached = is_known = True
                what = "another server leads, waiting"
            except (StoreError, Incomplete) as error:
                if not reached and (isinstance(error, Incomplete) or trio.current_time() >= give_up_at):
                    raise error if isinstance(error, Incomplete) else StoreError(f"STORE: {place}: {error}") from None
                # Of tables that were there somebody makes others just now, or will have to.
                is_known = False
                holder, what = str(error), "the database cannot be reached, waiting"
                silence.note_gap()
            if holder is None:
                break
            if note_leader is None:
                note_leader = on_wait()
            if reached:
                # The leader is where it was, as far as anybody knows; who leads by now may be another one, which nobody knows to have ended.
                hurry.leader = None
                with suppress(StoreError):
                    hurry.leader = await trio.to_thread.run_sync(partial(announcer.wait, doing))
            now = trio.current_time()
            if holder != told or (not is_known and now - told_at >= MAINTENANCE_TOLD_MS / 1000):
                # A mistyped database is reached never, and nobody else says so.
                level = logging.INFO if is_known else logging.WARNING
                _log.log(level, what, store=str(place), **{"leader" if is_known else "error": holder})
                told, told_at = holder, now
            doing = await hurry.rest(note_leader, store.lease_s, holder if is_known else None)
    except BaseException:
        store.close()
        raise
    finally:
        announcer.close()
    store.skip_event_ids()
    if told is not None:
        _log.info("this server leads now", store=str(place))
    return store
