"""Which store the settings name, and how it is opened: a file at once, a database when this server may lead there."""

from collections.abc import Callable

from bunqueue_trio.config import Settings, check_data_path
from bunqueue_trio.errors import StartupError
from bunqueue_trio.storage.awaited import NoteLeader, nobody_asks
from bunqueue_trio.storage.sqlite import SqliteStore
from bunqueue_trio.storage.store import Store


async def open_store(settings: Settings, on_wait: Callable[[], NoteLeader] = lambda: nobody_asks) -> Store:
    """Return the store, which nobody else writes to now; waits for that as long as it takes, and calls ``on_wait`` when it begins to.

    What that returns learns, again and again, where the leader is reached.

    Raises:
        StartupError: it cannot be opened.
        StoreError: the database cannot be reached.
    """
    if not settings.store:
        return SqliteStore(check_data_path(settings.data_path))
    # A queue in a file needs nothing of this.
    try:
        from bunqueue_trio.storage.postgres.standby import take_over
    except ImportError as error:
        raise StartupError(f'STORE: needs psycopg: pip install ".[postgres]" in the checkout ({error})') from None
    return await take_over(settings.store, settings.store_lease_ms / 1000, on_wait)
