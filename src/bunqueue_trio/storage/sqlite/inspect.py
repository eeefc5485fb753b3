"""Looking at a store's file and copying it, beside a running server or without one. Neither writes to it.

Both read one snapshot from begin to end. While they do, the write-ahead log of a running server cannot be
emptied and grows by what is written meanwhile; nothing waits for them.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import apsw
import msgspec
from msgspec import Raw

from bunqueue_trio.errors import StoreDamaged, StoreError
from bunqueue_trio.protocol.surrogates import marked
from bunqueue_trio.storage.copies import UNFINISHED, is_loose
from bunqueue_trio.storage.readable import unreadable_facts, unreadable_lines
from bunqueue_trio.storage.rows import FinishedRow, JobRow, Reader
from bunqueue_trio.storage.sqlite.meaning import one_line
from bunqueue_trio.storage.sqlite.opening import (
    BESIDE,
    closing,
    is_elsewhere,
    make_private,
    real,
    refuse_foreign,
    sync_directory,
)
from bunqueue_trio.storage.sqlite.parted import is_logged

# Of the rows that a check finds; the count says how many there are.
_EXAMPLES = 3
# Copied between two reports of progress: 8 MB.
_STEP_PAGES = 2000
# Of SQLite\'s machine between two reports of progress: some ms.
_PROGRESS_STEPS = 100_000
_RAW = msgspec.json.Decoder(Raw)

_WAITING_ON = "SELECT job.id, open.value AS waits_for FROM job, json_each(job.note, '$.waiting_on') AS open"

CHECKS: tuple[tuple[str, str], ...] = (
    ("unfinished jobs share an id", "SELECT id FROM job GROUP BY id HAVING count(*) > 1"),
    ("jobs are unfinished and finished at once", "SELECT id FROM job JOIN finished USING (id)"),
    (
        "unfinished jobs are in no state that there is",
        "SELECT id FROM job WHERE state NOT IN ('waiting', 'delayed', 'waiting-children', 'active')",
    ),
    (
        "finished jobs are in no state that there is",
        "SELECT id FROM finished WHERE state NOT IN ('completed', 'failed', 'removed')",
    ),
    (
        "active jobs have no lease",
        "SELECT id FROM job WHERE state = 'active' AND (lease IS NULL OR started_at IS NULL)",
    ),
    ("jobs have a lease and are not active", "SELECT id FROM job WHERE state <> 'active' AND lease IS NOT NULL"),
    (
        "jobs wait for dependencies and name none",
        "SELECT id FROM job WHERE state = 'waiting-children' "
        "AND coalesce(json_array_length(note, '$.waiting_on'), 0) = 0",
    ),
    (
        "jobs wait for a job that is not there",
        f"SELECT id FROM ({_WAITING_ON}) WHERE waits_for NOT IN (SELECT id FROM job)",  # noqa: S608 - a constant
    ),
    ("ready jobs have no place", "SELECT id FROM job WHERE state = 'waiting' AND place = 0"),
    (
        "ready jobs share a place",
        "SELECT min(id) FROM job WHERE state = 'waiting' AND place <> 0 GROUP BY place HAVING count(*) > 1",
    ),
    (
        "unfinished jobs hold the same unique key",
        "SELECT min(id) FROM job WHERE json_extract(options, '$.unique_key') IS NOT NULL "
        "GROUP BY queue, json_extract(options, '$.unique_key') HAVING count(*) > 1",
    ),
    (
        "keys are where no next one is left",
        f"SELECT id FROM job WHERE seq NOT BETWEEN 1 AND {2**53} OR abs(place) > {2**53} "  # noqa: S608 - numbers
        f"UNION ALL SELECT id FROM finished WHERE fin NOT BETWEEN 1 AND {2**53}",
    ),
    (
        "events overlap",
        "SELECT last_id FROM (SELECT last_id, count, lag(last_id, 1, 0) OVER (ORDER BY last_id) AS before "
        "FROM event_batch) WHERE count < 1 OR last_id - count < before",
    ),
)
"""What must not be, and the query that finds it: one row for each offence, naming the job or event."""


TRAIL_CHECKS: tuple[tuple[str, str], ...] = (
    (
        "trails are of no job",
        "SELECT key FROM trail WHERE key <> '' AND key NOT IN (SELECT id FROM job) AND key NOT IN (SELECT id FROM finished)",
    ),
    (
        "trails do not add up",
        "SELECT key || ' ' || kind FROM trail LEFT JOIN trail_line ON trail = id GROUP BY id HAVING count(n) <> next - first "
        "OR total(length(body)) <> size OR min(n) <> first OR max(n) <> next - 1",
    ),
    ("lines are of no trail", "SELECT trail FROM trail_line WHERE trail NOT IN (SELECT id FROM trail)"),
)
"""The same of trails, which a file has since schema 4."""
_TRAILS_SINCE = 4
_LINES = "SELECT kind, key, body FROM trail JOIN trail_line ON trail = id"


class Report(NamedTuple):
    """What was found in a file: how much there is, and what is wrong (nothing, if all is well)."""

    schema: int
    size: int
    free: int
    """Bytes of it that nothing uses."""
    unfinished: dict[str, int]
    finished: dict[str, int]
    events: int
    facts: dict[str, int]
    """Of each kind; a file of an older schema has none."""
    trails: dict[str, int]
    """Lines of each kind; a file of an older schema has none."""
    findings: list[str]


def examine(path: Path, on_check: Callable[[str], None]) -> Report:
    """Check the store in ``path``; ``on_check`` gets the name of what is looked at next.

    Raises:
        StartupError: the file is not a store of ours.
        StoreError: it cannot be read at all.
    """
    with snapshot(path) as connection:
        on_check("the structure of the file")
        findings = list(_damage(connection))
        on_check("every job")
        findings += _unreadable(connection)
        version = int(connection.pragma("user_version"))
        for claim, query in CHECKS + (TRAIL_CHECKS if version >= _TRAILS_SINCE else ()):
            on_check(claim)
            findings += _offences(connection, claim, query)
        findings += _ungrouped(connection)
        on_check("facts, and lines of trails")
        findings += _unread(
            connection, "fact", "facts cannot be read", "SELECT kind, key, value FROM fact", unreadable_facts
        )
        findings += _unread(connection, "trail_line", "lines of trails cannot be read", _LINES, unreadable_lines)
        on_check("the counts")
        return Report(
            schema=version,
            size=path.stat().st_size,
            free=int(connection.pragma("freelist_count")) * int(connection.pragma("page_size")),
            unfinished=_counts(connection, "SELECT state, count(*) FROM job GROUP BY 1 ORDER BY 1"),
            finished=_counts(connection, "SELECT state, count(*) FROM finished GROUP BY 1 ORDER BY 1"),
            events=sum(_counts(connection, "SELECT '', coalesce(sum(count), 0) FROM event_batch").values()),
            facts=_counts(connection, "SELECT kind, count(*) FROM fact GROUP BY 1 ORDER BY 1"),
            trails=_counts(connection, "SELECT kind, sum(next - first) FROM trail GROUP BY 1 ORDER BY 1"),
            findings=findings,
        )


def copy(path: Path, target: Path, on_progress: Callable[[int, int], None], *, overwrite: bool) -> int:
    """Copy the store in ``path`` to ``target`` as it is now, fsynced; return its size in bytes.

    The copy gets its name when it is complete and checked. ``on_progress`` gets the pages done, and in all.

    Raises:
        StartupError: the file is not a store of ours.
        StoreError: saying what stands in the way.
    """
    if not target.parent.is_dir():
        raise StoreError(f"{target}: there is no directory {target.parent}")
    if target.is_dir():
        raise StoreError(f"{target}: is a directory")
    if target.name.endswith(BESIDE):
        raise StoreError(f"{target}: is the name of a file that lies beside a store")
    if target.exists() and not overwrite:
        raise StoreError(f"{target}: exists already; --force replaces it")
    if beside(target):
        raise StoreError(f"{target}: is in use, or was not closed: {beside(target)[0]} lies beside it")
    with snapshot(path) as source:
        if not int(source.pragma("user_version")):
            raise StoreError(f"{path}: holds nothing, not even the tables of a store")
        if target.exists() and target.samefile(path):
            raise StoreError(f"{target}: is the file itself")
        return write_copy(source, path, target, path.stat().st_mode & 0o7777, on_progress)


def write_copy(
    source: apsw.Connection, path: Path, target: Path, mode: int, on_progress: Callable[[int, int], None]
) -> int:
    """Copy the state of ``path`` that ``source`` sees to ``target``, checked and fsynced, and return its bytes; whatever ends it, no half of it is left.

    Raises:
        StoreError: saying what stands in the way.
    """
    unfinished = target.with_name(f"{target.name}{UNFINISHED}")
    try:
        # What an interrupted copy left.
        unfinished.unlink(missing_ok=True)
        make_private(unfinished)
        free, pages = (int(source.pragma(name)) for name in ("freelist_count", "page_count"))
        write = _write_compact if is_loose(free, pages) else _copy_pages
        write(source, path, unfinished, on_progress)
        _check_copy(path, unfinished, on_progress)
        _finish(unfinished, mode)
        unfinished.replace(target)
        sync_directory(target.parent)
        return target.stat().st_size
    except OSError as error:
        raise StoreError(f"{target}: cannot be written: {error.strerror}") from None
    finally:
        drop_unfinished(unfinished)


def _copy_pages(source: apsw.Connection, path: Path, target: Path, on_progress: Callable[[int, int], None]) -> None:
    try:
        with (
            closing(apsw.Connection(str(target.absolute()))) as copied,
            copied.backup("main", source, "main") as backup,
        ):
            while not backup.done:
                try:
                    backup.step(_STEP_PAGES)
                except apsw.Error:
                    try:
                        raise
                    finally:
                        # What a step raises says "not an error"; what has gone wrong its end says.
                        backup.finish()
                on_progress(backup.page_count - backup.remaining, backup.page_count)
    except apsw.Error as error:
        raise _uncopied(path, target, error) from None


def _write_compact(source: apsw.Connection, path: Path, target: Path, on_progress: Callable[[int, int], None]) -> None:
    """Write what is in a file anew, without its free pages."""
    used = int(source.pragma("page_count")) - int(source.pragma("freelist_count"))
    total = used * int(source.pragma("page_size"))

    def tell() -> bool:
        on_progress(min(target.stat().st_size, total), total)
        return False

    # It sees one state by itself, and cannot begin within another look.
    source.execute("ROLLBACK").fetchall()
    source.set_progress_handler(tell, _PROGRESS_STEPS)
    try:
        tell()
        source.execute("VACUUM INTO ?", (str(target.absolute()),)).fetchall()
        on_progress(total, total)
    except apsw.Error as error:
        raise _uncopied(path, target, error) from None
    finally:
        source.set_progress_handler(None)


def _check_copy(path: Path, target: Path, on_progress: Callable[[int, int], None]) -> None:
    def tell() -> bool:
        on_progress(1, 1)
        return False

    try:
        with closing(apsw.Connection(str(target.absolute()))) as copied:
            # Whoever wants it to end need not wait for the end of this.
            copied.set_progress_handler(tell, _PROGRESS_STEPS)
            # No log beside it, so that the file alone is the whole; a server that opens it makes its own.
            copied.execute("PRAGMA journal_mode=DELETE").fetchall()
            for (line,) in copied.execute("PRAGMA quick_check(1)"):
                if line != "ok":
                    raise StoreError(f"{path}: is damaged, or its copy was not written well: {one_line(line)}")
    except apsw.Error as error:
        raise StoreError(f"{target}: cannot be written: {error}") from None


def _uncopied(path: Path, target: Path, error: apsw.Error) -> StoreError:
    """Return why ``path`` cannot be copied to ``target``: whoever asked for it has named the first."""
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return StoreDamaged(f"{path}: is damaged: {one_line(error)}")
    return StoreError(f"{target}: cannot be written: {error}")


def _finish(target: Path, mode: int) -> None:
    descriptor = os.open(target, os.O_RDONLY)
    try:
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def drop_unfinished(path: Path) -> None:
    """Remove what a copy has left that did not get its name, where that is possible: what has gone wrong before is what is said."""
    for left in (*beside(path), path):
        with suppress(OSError):
            left.unlink()


def beside(path: Path) -> list[Path]:
    """Return the files that SQLite keeps beside ``path`` while somebody has it open."""
    return [log for end in BESIDE if end != ".lock" and (log := Path(f"{path}{end}")).exists()]


@contextmanager
def snapshot(path: Path) -> Iterator[apsw.Connection]:
    """Yield a connection that sees one state of the store, whatever is committed meanwhile."""
    path = real(path)
    if not path.is_file():
        raise StoreError(f"{path}: there is no such file")
    if path.stat().st_size == 0:
        raise StoreError(f"{path}: is empty")
    if path.stat().st_nlink > 1 and is_logged(path):
        raise StoreError(
            f"{path}: has a second name (a hard link), beside which its log may be; use the name that the server has"
        )
    if is_elsewhere(path):
        raise StoreError(
            f"{path}: a server has it by another name, beside which its log is; use the name that the server has"
        )
    # With nobody at it no trace is left beside it: files of another owner there would lock the server out.
    alone = not beside(path)
    uri = f"{path.absolute().as_uri()}?{'immutable=1' if alone else 'mode=ro'}"
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    try:
        refuse_foreign(path)
        with closing(apsw.Connection(uri, flags=flags)) as connection:
            # A server that is just starting or stopping.
            connection.set_busy_timeout(5000)
            connection.execute("BEGIN").fetchall()
            # Here the snapshot is taken.
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
            yield connection
    except apsw.ReadOnlyError:
        # What is not finished would have to be undone, in the file.
        raise StoreError(
            f"{path}: a server was killed while it wrote to the file, and {path.name}-journal beside it tells how to undo that: start a server on it once"
        ) from None
    except apsw.Error as error:
        raise StoreError(f"{path}: cannot be read: {error}") from None
    if alone and beside(path):
        raise StoreError(f"{path}: a server has started meanwhile; run this again")


def _ungrouped(connection: apsw.Connection) -> Iterator[str]:
    """Yield what is in no group of errors and should be, or the other way round; a file of an older schema has no groups."""
    # The damage is a finding already.
    with suppress(apsw.Error):
        if any(row[1] == "fingerprint" for row in connection.execute("PRAGMA table_info(finished)")):
            query = "SELECT id FROM finished WHERE (state = 'failed') <> (fingerprint IS NOT NULL)"
            yield from _offences(connection, "dead letters are in no group of errors, or others are", query)


def _unread(
    connection: apsw.Connection, table: str, claim: str, query: str, unreadable: Callable[..., Iterator[str]]
) -> Iterator[str]:  # fmt: skip
    """Yield which rows of ``table`` cannot be read; a file of an older schema has none."""
    # The damage is a finding already.
    with suppress(apsw.Error):
        is_there = connection.execute("SELECT 1 FROM sqlite_schema WHERE name=?", (table,)).fetchall()
        if is_there and (failed := list(unreadable(connection.execute(query)))):
            yield _told(claim, failed)


def _damage(connection: apsw.Connection) -> Iterator[str]:
    try:
        for (line,) in connection.execute("PRAGMA integrity_check(20)"):
            if line != "ok":
                yield f"the file is damaged: {' '.join(str(line).split())}"
    except apsw.Error as error:
        # So much that nobody can say where.
        yield f"the file is damaged: {error}"


def _unreadable(connection: apsw.Connection) -> Iterator[str]:
    """Yield the jobs that the server could not read: an unfinished one of them stops its start."""
    rows = Reader()
    for table, names, read in (("job", JobRow._fields, rows.one), ("finished", FinishedRow._fields, rows.finished)):
        failed: list[str] = []
        try:
            # An older schema has fewer.
            have = {str(row[1]) for row in connection.execute(f"PRAGMA table_info({table})")}
            columns = ", ".join(name if name in have else "NULL" for name in names)
            for key, *row in connection.execute(f"SELECT rowid, {columns} FROM {table}"):  # noqa: S608 - ours
                try:
                    job = read(tuple(row))
                    for payload in (job.data, None if job.note is None else job.note.result):
                        _RAW.decode(marked(payload or b"null"))
                except (ValueError, LookupError, TypeError) as error:
                    failed.append(f"row {key}: {error}")
        except apsw.Error as error:
            # Damage that stops the reading.
            failed.append(str(error))
        if failed:
            yield _told(f"jobs in {table} cannot be read", failed)


def _offences(connection: apsw.Connection, claim: str, query: str) -> Iterator[str]:
    try:
        offences = [str(row[0]) for row in connection.execute(query)]
    except apsw.Error as error:
        # Damage that stops even the question.
        yield f"{claim}: cannot be checked: {error}"
        return
    if offences:
        yield _told(claim, offences)


def _told(claim: str, offences: list[str]) -> str:
    examples = ", ".join(offences[:_EXAMPLES]) + (", …" if len(offences) > _EXAMPLES else "")
    return f"{claim}: {len(offences)} ({examples})"


def _counts(connection: apsw.Connection, query: str) -> dict[str, int]:
    # The damage is a finding already.
    with suppress(apsw.Error):
        return {str(name): int(str(n)) for name, n in connection.execute(query)}
    return {}
