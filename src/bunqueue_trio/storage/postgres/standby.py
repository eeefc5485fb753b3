"""The server that waits until it may lead: behind one that lives, or behind the lease of one that has died."""

from collections.abc import Callable
from contextlib import suppress

import structlog
import trio

from bunqueue_trio.config import STANDBY_S, STORE_START_S
from bunqueue_trio.errors import StoreError
from bunqueue_trio.storage.awaited import NoteLeader, nobody_asks
from bunqueue_trio.storage.postgres.announcer import Announcer
from bunqueue_trio.storage.postgres.place import parse_place
from bunqueue_trio.storage.postgres.store import PostgresStore

_log = structlog.get_logger()


async def take_over(url: str, lease_s: float, on_wait: Callable[[], NoteLeader] = lambda: nobody_asks) -> PostgresStore:
    """Return the store at ``url`` once this server leads there; ``on_wait`` is called when it begins to wait.

    What that returns learns, again and again, where the leader is reached.

    Raises:
        StartupError: the database cannot be used.
        StoreError: it cannot be reached, and could not once within STORE_START_S.
    """
    place = parse_place(url)
    store, announcer = PostgresStore(place, lease_s), Announcer(place)
    note_leader: NoteLeader | None = None
    told: str | None = None
    reached = False
    give_up_at, patient_until = trio.current_time() + STORE_START_S, 0.0
    try:
        while True:
            # A database that was away may have come back without its newest transactions, the last beats among them. Who has
            # led remembers what is missing, and gets the time to write it again.
            ask = store.take if trio.current_time() >= patient_until else store.holder
            try:
                holder = await trio.to_thread.run_sync(ask)
                reached = is_known = True
                what = "another server leads, waiting"
            except StoreError as error:
                if not reached and trio.current_time() >= give_up_at:
                    raise StoreError(f"STORE: {place}: {error}") from None
                is_known = False
                holder, what = str(error), "the database cannot be reached, waiting"
                patient_until = trio.current_time() + lease_s
            if holder is None:
                break
            if note_leader is None:
                note_leader = on_wait()
            if reached:
                with suppress(StoreError):  # the leader is where it was, as far as anybody knows
                    note_leader(*await trio.to_thread.run_sync(announcer.wait))
            if holder != told:
                _log.info(what, store=str(place), **{"leader" if is_known else "error": holder})
                told = holder
            await trio.sleep(STANDBY_S)
    except BaseException:
        store.close()
        raise
    finally:
        announcer.close()
    store.skip_event_ids()
    if told is not None:
        _log.info("this server leads now", store=str(place))
    return store
