"""The store in a SQLite file: opening it, writing and reading, looking at it, copying it and making it smaller."""

from bunqueue_trio.storage.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
