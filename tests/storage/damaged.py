"""A file with pages of one table overwritten, for the tests of what becomes of that."""

from pathlib import Path

import apsw

TABLES = ("job", "fact", "finished", "event_batch", "trail", "trail_line")
PAGE = 4096


def leaves(path: Path, table: str) -> list[int]:
    """Return the numbers of the pages of ``table`` that hold its rows: its leaves, or its root where that is all."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        query = "SELECT pageno FROM dbstat WHERE name=? AND pagetype='leaf' ORDER BY pageno"
        return [int(page) for (page,) in connection.execute(query, (table,))]
    finally:
        connection.close()


def overwrite(path: Path, table: str, which: int | None = None) -> None:
    """Overwrite all leaves of ``table``, or one of them, as a bad disk does: under whoever has the file open."""
    pages = leaves(path, table)
    assert pages, f"{table} has no page"
    with path.open("r+b") as file:
        for page in pages if which is None else [pages[which]]:
            file.seek((page - 1) * PAGE)
            file.write(b"\xa5" * PAGE)
